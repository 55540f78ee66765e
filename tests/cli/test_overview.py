"""What `gossamer status` says of a mesh, from what its processes say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gossamer.cli.overview import SECTIONS, Told, overview

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
ERROR = {
    "severity": "error",
    "code": "x",
    "kind": "Gateway",
    "namespace": "a",
    "name": "b",
    "file": "g.yaml",
    "line": 7,
}
PLANE: dict[str, Any] = {
    "version": "1.2.3",
    "since": "2030-01-01T09:30:00+00:00",
    "ready": True,
    "generation": 4,
    "xds": "127.0.0.1:15012",
    "trust_domain": "cluster.local",
    "diagnostics": [],
    "root": {"sha256": "ab" * 32, "ends": "2040-01-01T00:00:00+00:00"},
}
AGENT: dict[str, Any] = {"control_plane": "10.0.0.1:15012", "capture": "explicit", "workloads": []}


def _row(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "sidecar",
        "configuration": "SYNCED",
        "envoy": "ready",
        "envoy_version": "1.40.0",
        "problem": "",
        "capture": "transparent",
        "bypassable": False,
        "certificate_ends": "2030-01-01T18:00:00+00:00",
    } | changes


def _told(**changes: Any) -> Told:
    values: dict[str, Any] = {"folder": "/run/m", "plane": PLANE, "agent": AGENT, "proxies": [_row("a/x")], "now": NOW}
    return Told(**values | changes)


def _lines(told: Told, section: str) -> str:
    found = overview(told)[section]
    return "\n".join((*found.lines, *found.more))


def test_all_is_well() -> None:
    found = overview(_told())
    assert list(found) == [name for name, _ in SECTIONS]
    assert not any(one.worry or one.more for one in found.values())
    assert "ready at 127.0.0.1:15012 since 2030-01-01T09:30:00+00:00 (for 2h)" in found["control_plane"].lines[0]
    assert found["configuration"].data["accepted"] is True
    assert found["proxies"].lines == ("1 known, 1 connected, 1 in sync", "Envoy 1.40.0 (1)")
    assert found["certificates"].data["next_to_end"] == {"name": "a/x", "ends": "2030-01-01T18:00:00+00:00"}
    assert "in 6h" in found["certificates"].lines[0]


def test_what_is_not_well_is_named() -> None:
    told = _told(
        plane=PLANE | {"ready": False, "diagnostics": [ERROR | {"message": "no such host"}]},
        proxies=[
            _row("a/x", certificate_ends="2030-01-01T11:00:00+00:00"),
            _row("a/y", configuration="STALE", bypassable=True, capture="explicit"),
            *(_row(f"a/z{number}", configuration="NOT CONNECTED", problem="dead") for number in range(7)),
        ],
    )
    found = overview(told)
    assert all(one.worry for one in found.values())
    assert "g.yaml:7: no such host" in _lines(told, "configuration")
    said = _lines(told, "proxies")
    assert "9 known, 2 connected, 1 in sync" in said
    assert "stale: a/y" in said
    assert "not connected: a/z0, a/z1, a/z2, a/z3, a/z4, and 2 more" in said
    assert len(found["proxies"].data["behind"]["NOT CONNECTED"]) == 7, "a machine is told all of them"
    assert "bypassable: a/y" in _lines(told, "capture")
    assert found["capture"].data["bypassable"] == ["a/y"]
    assert "it ended 1h ago" in _lines(told, "certificates")


def test_a_control_plane_that_is_elsewhere_or_away() -> None:
    rows = [{"control_plane": "connected"}]
    elsewhere = _told(plane={}, agent=AGENT | {"workloads": rows}, proxies=[_row("a/x", configuration="")])
    assert not any(one.worry for one in overview(elsewhere).values())
    assert "10.0.0.1:15012" in _lines(elsewhere, "control_plane")
    assert overview(elsewhere)["configuration"].data == {"accepted": None}
    away = _told(plane={}, agent=AGENT | {"workloads": [{"control_plane": "UNAVAILABLE"}]}, proxies=[])
    assert overview(away)["control_plane"].worry
    assert "traffic goes on" in _lines(away, "control_plane")
    assert _lines(away, "capture") == "nothing is captured"
