"""Step 5: a DENY is live at once, names itself in the log of the sidecar that enforces it, and reaches connections that
were open before it was written."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from pathlib import Path

from gossamer.cli.tour.load import Client, Reply, open_client
from gossamer.cli.tour.report import Check, Excerpt, Rows, StepReport
from gossamer.cli.tour.scene import PAGE, PRODUCTS, Question, Scene, UnmetError, ask_until, last_is, status_of

EDIT = "deny/api"
POLICY = re.compile(r"rbac_access_denied_matched_policy\[ns\[([^]]+)\]-policy\[([^]]+)\]-rule\[(\d+)\]\]")
LOG_S = 12.0
SIDECAR = "envoy default/productpage-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Before, during and after the DENY, on connections opened before it; `connections` counts those that the client
    of the API had to open in all. `log_line` is the sidecar's own account of the denial."""

    before: str
    denied: str
    denied_after_s: float
    page_meanwhile: str
    allowed_after_s: float
    connections: int
    log_line: str


async def tour_deny(scene: Scene) -> StepReport:
    """Close the API of productpage on a connection that is in use, find who says so, and open it again."""
    log = scene.mesh.log(SIDECAR)
    start = log.stat().st_size if log.exists() else 0
    async with open_client(scene.mesh.ingress) as api, open_client(scene.mesh.ingress) as page:
        before = await api.get(PRODUCTS)
        await page.get(PAGE)
        scene.teller.say("closing the API while a connection is open")
        edited = scene.edit(EDIT)
        denied = await _status(api, "403")
        meanwhile = await page.get(PAGE)
        scene.teller.say("looking for the policy in the sidecar's access log")
        line = await find_denial(log, start)
        scene.teller.say("opening the API again")
        undone = scene.undo(EDIT)
        allowed = await _status(api, "200")
        measured = Measured(
            before=status_of(before),
            denied=f"{status_of(denied[0])} {denied[0].body.decode('utf-8', 'replace')[:60]}",
            denied_after_s=denied[1] - edited,
            page_meanwhile=status_of(meanwhile),
            allowed_after_s=allowed[1] - undone,
            connections=api.opened,
            log_line=line,
        )
    return report(measured, scene.logs_of(SIDECAR, "control-plane"))


async def _status(client: Client, status: str) -> tuple[Reply, float]:
    seen = await ask_until(client, Question(path=PRODUCTS, label=status_of), last_is(status), f"status {status}")
    return seen.reply, seen.at


async def find_denial(log: Path, start: int, timeout_s: float = LOG_S) -> str:
    """The first line of `log` from byte `start` on that names a policy; waits for it, since Envoy writes in batches."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if log.exists():
            with log.open("rb") as file:
                file.seek(start if log.stat().st_size >= start else 0)  # the file is cut when it has grown too long
                for line in file.read().decode("utf-8", "replace").splitlines():
                    if POLICY.search(line):
                        return line
        await asyncio.sleep(0.1)
    raise UnmetError(f"a denial in the access log within {timeout_s:g} s", "none", (log,))


def report(measured: Measured, logs: tuple[Path, ...]) -> StepReport:
    """What the answers and the log line say."""
    found = POLICY.search(measured.log_line)
    policy = f"{found[1]}/{found[2]} rule {found[3]}" if found else "no policy"
    rows = (
        ("before the edit", measured.before, ""),
        ("DENY written to config/deny.yaml", measured.denied, f"{measured.denied_after_s:.2f} s"),
        ("  the page meanwhile", measured.page_meanwhile, ""),
        ("DENY removed", "200", f"{measured.allowed_after_s:.2f} s"),
    )
    checks = (
        Check(
            claim="the API answers 403",
            seen=f"{measured.denied} after {measured.denied_after_s:.2f} s",
            passed=measured.before == "200" and measured.denied.startswith("403"),
        ),
        Check(
            claim="on the connection that was open before",
            seen=f"{measured.connections} connection{'s' if measured.connections != 1 else ''} in all",
            passed=measured.connections == 1,
        ),
        Check(claim="what the policy leaves alone goes on", seen=measured.page_meanwhile, passed=_ok(measured)),
        Check(
            claim="the sidecar's log names the policy",
            seen=f"AuthorizationPolicy {policy}",
            passed=found is not None and found.groups()[:2] == ("default", "close-the-api"),
        ),
    )
    return StepReport(
        about="A DENY closes productpage's API, at once, in the middle of a connection.",
        figure=f"403 after {measured.denied_after_s:.2f} s by {policy}",
        blocks=(
            Rows(columns=("moment", "the API answers", "after"), rows=rows, right=(2,)),
            Excerpt(caption="In the access log of productpage's sidecar:", text=_cut(measured.log_line)),
        ),
        checks=checks,
        logs=logs,
    )


def _ok(measured: Measured) -> bool:
    return measured.page_meanwhile == "200"


def _cut(line: str) -> str:
    """The line from the request to the policy that it names."""
    found = POLICY.search(line)
    start = line.find('"') if found else -1
    return line[max(start, 0) : found.end()] if found else line[:200]
