"""The command line as a whole: what it loads, how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer import __version__
from gossamer.cli.main import COMMANDS, run

LOADED = """
import sys
from gossamer.cli.main import run
code = run(sys.argv[1:])
heavy = {"grpc", "envoy", "pydantic", "starlette", "httpx", "cryptography", "pyroute2", "yaml"}
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules} & heavy), file=sys.stderr)
sys.exit(code)
"""


def loaded(*arguments: str) -> set[str]:
    """The heavy modules that a run of the command loads."""
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.strip().splitlines()[-1].split()[1:])


def test_help_loads_nothing_heavy_and_lists_every_command() -> None:
    assert loaded("--help") == set()
    done = subprocess.run([sys.executable, "-c", LOADED, "--help"], capture_output=True, text=True, check=True)
    for entry in COMMANDS:
        assert f" {entry.name} " in done.stdout


def test_validate_needs_neither_grpc_nor_envoy(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")
    assert loaded("validate", "-f", str(tmp_path)) == {"pydantic", "yaml"}


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"gossamer {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["validte"], "validate"),
        (["validate"], "which files?"),
        (["validate", "-f", "nowhere.yaml"], "no such file or folder: nowhere.yaml"),
        (["validate", "--nonsense"], "--nonsense"),
        (["compile", "-f", ".", "--type", "gateway"], "'sidecar'"),
        (["compile", "-f", ".", "--ip", "10.0.0"], "--ip 10.0.0"),
        (["compile", "-f", ".", "--labels", "app:x"], "name=value"),
        (["compile", "-f", ".", "--mesh-config", "nowhere.yaml"], "--mesh-config nowhere.yaml"),
        (["simulate", "-f", ".", "http://a"], "--from"),
        (["simulate", "-f", ".", "--from", "a", "--gateway", "b", "http://a"], "leave out --from"),
        (["simulate", "-f", ".", "--from", "a", "ftp://a"], "only http://"),
        (["simulate", "-f", ".", "--from", "a", "http://"], "names no host"),
        (["simulate", "-f", ".", "--from", "a", "tcp://a"], "names no port"),
        (["simulate", "-f", ".", "--from", "a", "http://a:b"], "no URL"),
        (["simulate", "-f", ".", "--from", "a", "http://a", "http://b"], "2 were given"),
        (["simulate", "-f", ".", "--from", "a", "http://a", "-H", "x"], "'name: value'"),
    ],
)
def test_wrong_usage_is_2_and_says_why(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_completion_knows_commands_and_their_options() -> None:
    def complete(words: str, at: int) -> str:
        asked = {"_GOSSAMER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        argv = [sys.executable, "-c", "from gossamer.cli.main import main; main()"]
        return subprocess.run(argv, env={**os.environ, **asked}, capture_output=True, text=True, check=True).stdout

    assert complete("gossamer val", 1).split() == ["validate"]
    assert "--mesh-config" in complete("gossamer validate --", 2).split()
