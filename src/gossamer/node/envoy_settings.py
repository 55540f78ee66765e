"""How one Envoy is started: its command line, and what tells two ways of starting it apart.

Invariant: equal settings have equal digests, whatever process followed which.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.node.hot_restart import Generation

DRAIN_SECONDS: Final = 5
"""How long connections have to end when a listener changes or Envoy stops: every LDS change cuts streams that are
longer, and every stop waits for them at most this long."""
_LOG_FORMAT: Final = '{"ts":"%Y-%m-%dT%T.%eZ","level":"%l","event":"envoy","logger":"%n","message":"%j"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySettings:
    """How to run one Envoy. `folder` takes its bootstrap (mode 0700); `admin_socket` is where `bootstrap` puts it."""

    name: str
    binary: Path
    bootstrap: str
    folder: Path
    admin_socket: Path
    log: Path
    concurrency: int = 1
    """Worker threads; 0: one for each core."""
    environment: FrozenMap[str, str] = EMPTY
    drain_seconds: int = DRAIN_SECONDS
    stop_seconds: float | None = None
    """How long connections have when Envoy stops, if not the drain time."""
    flush_seconds: float = 1.0
    """How often it writes its logs out, and (0: Envoy's own) after how many kilobytes."""
    flush_kb: int = 0
    log_level: str = "warning"
    probe_seconds: float = 5.0
    """Between two questions whether an Envoy that is ready still is."""
    hung_seconds: float = 30.0
    """One that does not answer for so long is killed, and started again."""
    restarts_in: Path | None = None
    """Where Envoys that follow each other meet (mode 0700); None: this one cannot be followed."""

    def command_line(self, generation: Generation | None, shutdown_seconds: int = 0) -> tuple[str, ...]:
        """All of its words. The Envoy that it follows, if any, is ended `shutdown_seconds` after this one serves (Envoy
        wants that to be longer than the drain time)."""
        if generation is None or self.restarts_in is None:
            return (*self.argv, "--disable-hot-restart")
        return (*self.argv, *generation.argv(self.restarts_in, max(shutdown_seconds, self.drain_seconds + 1)))

    @property
    def argv(self) -> tuple[str, ...]:
        """Its command line, but for whom it follows."""
        return (
            str(self.binary),
            "--config-path",
            str(self.folder / "bootstrap.json"),
            *(("--concurrency", str(self.concurrency)) if self.concurrency else ()),
            "--drain-time-s",
            str(self.drain_seconds),
            "--drain-strategy",
            "immediate",
            # a denial is looked up in the access log within seconds of it; Envoy's own default is ten
            "--file-flush-interval-msec",
            str(max(round(self.flush_seconds * 1000), 1)),
            *(("--file-flush-min-size-kb", str(self.flush_kb)) if self.flush_kb else ()),
            "--log-level",
            self.log_level,
            "--log-format",
            _LOG_FORMAT,
        )

    @property
    def digest(self) -> str:
        """Equal for two Envoys that are started alike."""
        how: list[object] = [self.argv, str(self.restarts_in or ""), self.bootstrap]
        if self.environment:
            how.append(sorted(self.environment.items()))
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()[:32]
