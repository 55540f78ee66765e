"""What a real Envoy has against resources."""

from __future__ import annotations

import subprocess
from pathlib import Path

from gossamer.compile.static import Stub, compile_static
from gossamer.core.resources import Resources


def validated(envoy: Path, resources: Resources, stub: Stub, folder: Path) -> str:
    """What Envoy has against it: nothing, if it takes all of it."""
    path = folder / "bootstrap.json"
    path.write_text(compile_static(resources, stub))
    done = subprocess.run(
        [str(envoy), "--mode", "validate", "-c", str(path), "-l", "error"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr
