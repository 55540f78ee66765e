"""What may be written into headers is what Envoy can format."""

from __future__ import annotations

import json
from pathlib import Path

from gossamer.api.rules.format_commands import ASKING, COMMANDS
from gossamer.compile.static import Stub
from tests.compile.compiled import compiled, istio, service
from tests.compile.validated import validated


def test_envoy_knows_every_command(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    values = {
        f"x-{place}": f"%{name}({ASKING[name]})%" if ASKING.get(name) else f"%{name}%"
        for place, name in enumerate(sorted(COMMANDS))
    }
    headers = json.dumps({"request": {"set": values}, "response": {"add": values}})
    rule = istio(
        "VirtualService", "a", f"  hosts: [a]\n  http: [{{route: [{{destination: {{host: a}}}}], headers: {headers}}}]"
    )
    assert validated(envoy, compiled(service("a"), rule).resources, stub, tmp_path) == ""
