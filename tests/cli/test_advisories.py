"""Which advisories apply to which Envoy, and what is taken as a list of them."""

from __future__ import annotations

import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli import advisory_source
from gossamer.cli.advisories import (
    Advisories,
    Advisory,
    OddError,
    Vulnerable,
    applying,
    load_advisories,
    read_advisories,
    read_github,
    write_advisories,
)
from gossamer.cli.main import run
from tests.serving import in_background


def _github(**changes: Any) -> dict[str, Any]:
    return {
        "ghsa_id": "GHSA-aaaa-bbbb-cccc",
        "cve_id": "CVE-2030-1",
        "severity": "high",
        "summary": "It falls over",
        "published_at": "2030-01-02T03:04:05Z",
        "state": "published",
        "vulnerabilities": [
            {
                "package": {"name": "envoy"},
                "vulnerable_version_range": "< 1.41.2",
                "patched_versions": "1.41.2, v1.40.3",
            }
        ],
    } | changes


def _names(rows: list[dict[str, Any]], version: str) -> list[str]:
    found = read_github([json.dumps(rows)], "here", date(2030, 1, 3))
    return [one.name for one in applying(found, version)]


@pytest.mark.parametrize(
    ("text", "fixed", "version", "applies"),
    [
        ("", ("1.41.2", "1.40.3"), "1.40.2", True),
        ("", ("1.41.2", "1.40.3"), "1.40.3", False),
        ("", ("1.41.2", "1.40.3"), "1.41.1", True),
        ("", ("1.41.2", "1.40.3"), "1.42.0", False),
        ("", ("1.41.2", "1.40.3"), "1.39.9", True),
        (">= 1.40.0, < 1.40.3", ("1.40.3",), "1.39.9", False),
        ("< 1.27", (), "1.26.9", True),
        ("< 1.27", (), "1.27.0", False),
        ("<= 1.31", (), "1.31.7", True),
        ("<=1.31", (), "1.32.0", False),
        ("< 1.41.2, < 1.40.3", (), "1.41.0", True),
        ("all of them", (), "1.40.0", True),
        ("", (), "1.40.0", True),
        ("< 1.41.2", ("1.41.2",), "1.40.0-dev", True),
        ("< 1.41.2", ("1.41.2",), "unknown", True),
    ],
)
def test_versions_that_an_advisory_is_about(text: str, fixed: tuple[str, ...], version: str, applies: bool) -> None:
    one = Advisory(
        id="G", cve="", severity="", summary="", published="", vulnerable=(Vulnerable(range=text, fixed=fixed),)
    )
    found = Advisories(as_of="2030-01-01", source="", advisories=(one,))
    assert bool(applying(found, version)) is applies


def test_githubs_list() -> None:
    rows = [
        _github(),
        _github(cve_id="CVE-2030-2", withdrawn_at="2030-01-03T00:00:00Z"),
        _github(cve_id="CVE-2030-3", state="draft"),
        _github(cve_id=None, ghsa_id="GHSA-dddd-eeee-ffff", vulnerabilities=[]),
        "nonsense",
    ]
    assert _names(rows, "1.40.2") == ["GHSA-dddd-eeee-ffff", "CVE-2030-1"]  # type: ignore[arg-type]
    assert _names(rows, "1.42.0") == ["GHSA-dddd-eeee-ffff"], "where nobody says where, it is everywhere"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"message": "API rate limit exceeded"}', "no list"),
        ("[]", "names no advisory at all"),
        (json.dumps([_github()] * 2001), "no list of at most"),
        (json.dumps([_github(summary="x" * 2001)]), "no text of at most"),
        (json.dumps([_github(severity=7)]), "'7' is no text"),
        (json.dumps([_github(vulnerabilities=["x"])]), "no object"),
        (json.dumps([_github(vulnerabilities={"a": 1})]), "no list"),
    ],
)
def test_odd_lists_are_refused(text: str, problem: str) -> None:
    with pytest.raises(OddError, match=problem):
        read_github([text], "here", date(2030, 1, 1))


def test_text_cannot_steer_a_terminal() -> None:
    found = read_github([json.dumps([_github(summary="red \x1b[31m alert\n")])], "here", date(2030, 1, 1))
    assert found.advisories[0].summary == "red [31m alert"


def test_the_newer_of_what_is_shipped_and_kept(tmp_path: Path) -> None:
    shipped = load_advisories(None)
    assert len(shipped.advisories) >= 10
    assert all(one.name and one.summary and one.fixed for one in shipped.advisories)
    kept = tmp_path / "kept.json"
    for as_of, newer in (("2000-01-01", False), ("2999-01-01", True)):
        kept.write_text(write_advisories(Advisories(as_of=as_of, source="mine", advisories=shipped.advisories[:1])))
        assert (load_advisories(kept).source == "mine") is newer
    assert read_advisories(kept.read_text()).advisories == shipped.advisories[:1]
    kept.write_text("{}")
    with pytest.raises(OddError, match="no list of advisories"):
        load_advisories(kept)


class _Pages(http.server.BaseHTTPRequestHandler):
    answers: dict[str, tuple[int, str, str]]

    def do_GET(self) -> None:
        status, link, body = self.answers[self.path]
        self.send_response(status)
        if link:
            self.send_header("Link", link)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _github_at(answers: dict[str, tuple[int, str, str]]) -> Iterator[str]:
    handler = type("Handler", (_Pages,), {"answers": answers})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    with in_background(server):
        yield f"http://127.0.0.1:{server.server_port}"


def _fake_envoy(folder: Path, version: str) -> str:
    binary = folder / "envoy"
    binary.write_text(f"#!/bin/sh\necho 'envoy  version: 0123abcd/{version}/Clean/RELEASE/BoringSSL'\n")
    binary.chmod(0o700)
    return str(binary)


def test_the_command_refreshes_and_then_needs_no_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    envoy = _fake_envoy(tmp_path, "1.40.0")
    common = ["version", f"--envoy={envoy}", f"--state={tmp_path / 'state'}"]
    assert run([*common, "--advisories"]) == 0, "none of those that are shipped applies to the Envoy that is"
    assert "Envoy 1.40.0: no known advisory applies" in capsys.readouterr().out
    second = json.dumps([_github(cve_id="CVE-2030-2")])
    with _github_at({"/a": (200, '</b>; rel="next"', json.dumps([_github()])), "/b": (200, "", second)}) as base:
        assert run([*common, "--advisories", "--refresh", f"--from={base}/a"]) == 1
    said = capsys.readouterr()
    assert "CVE-2030-1" in said.out
    assert "2 advisories from" in said.err
    assert run([*common, "--advisories", "-o", "json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["envoys"]
    assert [one["cve"] for one in found["advisories"]] == ["CVE-2030-2", "CVE-2030-1"]
    assert found["advisories"][0]["fixed"] == ["1.41.2", "1.40.3"]
    newer = tmp_path / "newer"
    newer.mkdir()
    assert run(["version", f"--envoy={_fake_envoy(newer, '1.40.3')}", common[2], "--advisories"]) == 0


def test_what_a_source_may_not_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(advisory_source, "LARGEST", 1 << 20)
    common = ["version", f"--envoy={_fake_envoy(tmp_path, '1.40.0')}", f"--state={tmp_path / 'state'}", "--refresh"]
    rows = json.dumps([_github()])
    answers = {
        "/large": (200, "", "x" * ((1 << 20) + 1)),
        "/away": (200, '<http://192.0.2.1/>; rel="next"', rows),
        "/endless": (200, '</endless>; rel="next"', rows),
        "/moved": (302, "", ""),
    }
    with _github_at(answers) as base:
        for path, problem in (
            ("/large", "larger than 1 MiB"),
            ("/away", "another host"),
            ("/endless", "more than 20 pages"),
            ("/moved", "answers 302"),
        ):
            assert run([*common, f"--from={base}{path}"]) == 1
            assert problem in capsys.readouterr().err
    assert run([*common, "--from=ftp://x/y"]) == 2
    assert run([*common, f"--from={tmp_path / 'nowhere'}"]) == 2
    assert run([*common[:1], f"--envoy={tmp_path / 'envoy'}", f"--state={tmp_path}", "--from=http://127.0.0.1:1/"]) == 1
    assert not (tmp_path / "state" / "envoy-advisories.json").exists(), "nothing of it was kept"


def test_the_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    envoy = _fake_envoy(tmp_path, "1.40.0")
    assert run(["version", f"--envoy={envoy}"]) == 0
    assert f"envoy 1.40.0 ({envoy})" in capsys.readouterr().out
    assert run(["version", f"--envoy={envoy}", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["envoy"], found["envoy_running"]) == ("1.40.0", {})
    assert found["xds_protos"][0].isdigit()
    Path(envoy).write_text("#!/bin/sh\necho nothing\n")
    assert run(["version", f"--envoy={envoy}"]) == 1
    assert "is it an Envoy?" in capsys.readouterr().err


@pytest.mark.envoy
def test_the_envoy_that_ships_has_no_known_advisory(
    envoy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert run(["version", "--advisories", f"--envoy={envoy}", f"--state={tmp_path}"]) == 0
    assert "no known advisory applies" in capsys.readouterr().out
