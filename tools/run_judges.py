"""Score this build with the judges that live beside the repository, and say how it did.

The judges are programs of their own: they know the product by its command line alone. A score is no pass or fail here:
the exit code says whether all of them ran to the end.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "judge"
GOSSAMER = ROOT / ".venv" / "bin" / "gossamer"
JUDGES: dict[str, tuple[str, ...]] = {
    "validation": ("cases/validation", "cases/crds", "cases/dataset"),
    "authz": ("cases/authz",),
    "simulation": ("cases/simulation",),
}
SCORE = re.compile(r"^\w+: (\d+)/(\d+) pass$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Score:
    """What one judge said at its end; `total` is 0 when it did not get there."""

    judge: str
    passed: int
    total: int
    seconds: float

    @property
    def line(self) -> str:
        if not self.total:
            return f"  {self.judge:12} did not run to its end"
        share = self.passed / self.total
        return f"  {self.judge:12} {self.passed:>5} of {self.total:<5} {share:>7.1%} {self.seconds:>7.1f} s"


def main() -> int:
    shared = Path(os.environ.get("SHARED", ROOT.parent / "shared")).resolve()
    if not (shared / "judge").is_dir():
        print(f"no judges in {shared}: set SHARED to the folder that contains judge/ and cases/", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:] or list(JUDGES)
    unknown = [name for name in wanted if name not in JUDGES]
    if unknown:
        print(f"no such judge: {', '.join(unknown)}; there are {', '.join(JUDGES)}", file=sys.stderr)
        return 2
    scores = [run(name, shared) for name in wanted]
    print("\njudges of this build:")
    print("\n".join(score.line for score in scores))
    print(f"every result: {OUT.relative_to(ROOT)}/*.json")
    summary = {score.judge: {"passed": score.passed, "total": score.total} for score in scores}
    (OUT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return 0 if all(score.total for score in scores) else 1


def run(judge: str, shared: Path) -> Score:
    """Run one judge, showing what it prints."""
    print(f"\n── {judge} ──", flush=True)
    cases = [word for folder in JUDGES[judge] for word in ("--cases", folder)]
    argv = [sys.executable, "-m", f"judge.{judge}", *cases, "--json", str(OUT / f"{judge}.json")]
    environment = {**os.environ, "GOSSAMER": str(GOSSAMER), "PYTHONDONTWRITEBYTECODE": "1"}
    began = time.monotonic()
    with subprocess.Popen(argv, cwd=shared, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = []
        for text in process.stdout:
            print(text, end="", flush=True)
            said.append(text)
    found = SCORE.findall("".join(said[-3:]))
    passed, total = (int(number) for number in found[-1]) if found else (0, 0)
    return Score(judge, passed, total, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
