"""The control plane as proxies see it: a real process, hundreds of mTLS connections, a change until it has arrived.

The proxies are simulated by the swarm that lives beside this repository, in `$SHARED/judge`; it knows nothing of ours
but the port. All runs on one machine: the swarm's own CPU time is in the figures.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gossamer.ca.folder import open_authority
from gossamer.ca.issue import issue
from gossamer.ca.spiffe import workload_id
from gossamer.cli.control_plane import ADDRESSES
from gossamer.sources.state import private_folder, runtime_folder

Row = dict[str, float]
NAMESPACES = 10
START_S, STOP_S = 60.0, 30.0
_CHANGED = "svc-7.ns-7.example.com"
_COLUMNS = {
    "first_ms": "first",
    "p50_ms": "p50",
    "last_ms": "last",
    "server_cpu_s": "server_s",
    "client_cpu_s": "client_s",
    "other_cpu_s": "other_s",
    "messages": "messages",
    "sent_mb": "mbytes",
    "rss_mb": "rss_mib",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """Where the swarm is, how many services it is shown, and how often each change is made."""

    shared: Path
    services: int = 1000
    repeat: int = 5
    eager: bool = False

    @property
    def found(self) -> bool:
        return (self.shared / "judge" / "swarm.py").is_file()


def measure(swarm: Swarm, folder: Path, proxies: int) -> tuple[dict[str, Row], Row]:
    """Figures by phase, of a control plane started for them in `folder` with this many proxies; and of its process."""
    mesh, state = folder / "mesh", folder / "state"
    _judge(swarm, "judge.shape", str(mesh), "--services", str(swarm.services), "--namespaces", str(NAMESPACES))
    certificates = folder / "certificates"
    _issue(state, certificates, proxies)
    process_row: Row = {}
    with _control_plane(mesh, state, folder / "control-plane.log", process_row) as (process, address):
        report = folder / "swarm.json"
        options = [
            *("--target", address, "--proxies", str(proxies), "--namespaces", str(NAMESPACES)),
            *("--workers", "2", "--server-pid", str(process.pid)),
            *("--repeat", str(swarm.repeat), "--quiet", "2", "--timeout", "90", "--json", str(report)),
            *("--root", str(certificates / "proxy-0" / "root.pem")),
            *("--cert", str(certificates / "{name}" / "cert.pem"), "--key", str(certificates / "{name}" / "key.pem")),
            *_changes(mesh),
            *(["--eager"] if swarm.eager else []),
        ]
        _judge(swarm, "judge.swarm", *options)
        process_row["peak_mb"] = _peak_mb(process.pid)
    return _rows(json.loads(report.read_text())), process_row


def _changes(mesh: Path) -> Iterator[str]:
    changed = mesh.with_name(mesh.name + ".new")
    kinds = {
        "endpoint": ("se-7.yaml", changed, "eds", f"outbound|80||{_CHANGED}"),
        "route": ("vs-7.yaml", changed, "rds", "80"),
        "nothing": ("se-7.yaml", mesh, "-", "-"),
    }
    for label, (file, new, kind, name) in kinds.items():
        yield from ("--change", label, str(mesh / file), str(new / file), kind, name)


def _rows(report: dict[str, list[dict[str, float | str | None]]]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for phase in report["medians"]:
        values = {name: phase[column] for name, column in _COLUMNS.items()}
        label = str(phase["label"]).removeprefix("~")
        rows[label] = {name: float(value) for name, value in values.items() if value is not None}
    return rows


def _issue(state: Path, certificates: Path, proxies: int) -> None:
    now = datetime.now(UTC)
    authority = open_authority(private_folder(state) / "ca", "cluster.local", now)
    for number in range(proxies):
        name, namespace = f"proxy-{number}", f"ns-{number % NAMESPACES}"
        workload = workload_id(
            trust_domain=authority.trust_domain, namespace=namespace, service_account="default", name=name
        )
        issue(authority, workload, certificates / name, now=now)


@contextmanager
def _control_plane(mesh: Path, state: Path, log: Path, row: Row) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A control plane on ports of the system's choice, and its address; stopped in order. `row` gets how long its
    start and its stop took."""
    options = ["--config", str(mesh), "--state", str(state), "--listen", "127.0.0.1:0", "--join-listen", "127.0.0.1:0"]
    command = [sys.executable, "-m", "gossamer", "control-plane", *options]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            began = time.monotonic()
            address = _address(process, state, log)
            row["start_ms"] = (time.monotonic() - began) * 1000
            yield process, address
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            if process.wait(STOP_S) != 0:
                raise RuntimeError(f"the control plane ended with {process.returncode}:\n{log.read_text()[-2000:]}")
            row["stop_ms"] = (time.monotonic() - began) * 1000
        finally:
            if process.poll() is None:
                process.kill()


def _address(process: subprocess.Popen[bytes], state: Path, log: Path) -> str:
    addresses = runtime_folder(state) / ADDRESSES
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if addresses.exists():
            return str(json.loads(addresses.read_text())["xds"])
        time.sleep(0.05)
    raise RuntimeError(f"the control plane did not start:\n{log.read_text()[-2000:]}")


def _judge(swarm: Swarm, module: str, *options: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(swarm.shared)}
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(command, check=False, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{module} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
