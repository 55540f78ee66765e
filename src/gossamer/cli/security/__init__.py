"""`gossamer security`: how a running mesh stands by the controls of NIST SP 800-204A and 204B, and its issuers' keys.

Contract: `report` exits with 1 if a control of the mesh's profile (or of --profile) does not hold; fields of its JSON
are only ever added.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import typer

from gossamer.api.profile import Profile
from gossamer.cli.parts import STATUS
from gossamer.cli.proxy import OutputOption, StateOption
from gossamer.cli.render import Output, paint_for, print_data, print_table, width_of, wrapped
from gossamer.cli.running import folder_of
from gossamer.cli.security.controls import CONTROLS, Control
from gossamer.cli.security.finding import Finding
from gossamer.cli.security.gather import gather_facts
from gossamer.cli.security.upkeep import key_state
from gossamer.rpc.local import PLANE_SOCKET, call

app = typer.Typer(no_args_is_help=True)
_PROFILE_HELP = "The profile whose controls must hold; by default the mesh's own."
_INDENT: Final = 6
Judged = list[tuple[Control, Finding]]


@app.callback()
def _security() -> None:
    """How a running mesh stands, control by control."""


@app.command()
def report(
    state: StateOption = None,
    profile: Annotated[Profile, typer.Option("--profile", help=_PROFILE_HELP, show_default=False)] = Profile.NONE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the controls of the profile `nist` with what is in force in the mesh that runs here.

    Exits with 1 if one of the profile that the mesh has (or that is asked for) does not hold.
    """
    facts = gather_facts(state)
    chosen = profile or facts.profile
    judged = [(control, control.judge(facts)) for control in CONTROLS]
    failed = [control.id for control, found in judged if found.holds is False and not control.advised]
    if output is Output.TABLE:
        _print(judged, chosen)
    else:
        told = {"profile": chosen.value, "holds": not failed, "controls": [_row(*one) for one in judged]}
        print_data(told, output)
    if chosen and failed:
        raise typer.Exit(1)


@app.command()
def keys(state: StateOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the issuers whose keys are fetched for tokens: how old their keys are, and why they are not newer."""
    rows = call(folder_of(state) / PLANE_SOCKET, "GET", STATUS).json()["keys"]
    if output is not Output.TABLE:
        print_data(rows, output)
        return
    cells = [
        (
            row["url"],
            "discovery" if row["discovered"] else "jwksUri",
            "-" if row["age_s"] is None else f"{row['age_s']:.0f} s",
            key_state(row),
            row["error"] or "-",
        )
        for row in rows
    ]
    print_table(("ISSUER OR KEYS", "FOUND BY", "AGE", "STATE", "LAST FAILURE"), cells)


def _row(control: Control, found: Finding) -> dict[str, Any]:
    return {
        "control": control.id,
        "asks": control.asks,
        "references": list(control.references),
        "advised": control.advised,
        "holds": found.holds,
        "evidence": list(found.evidence),
        "tests": list(control.tests),
    }


def _print(judged: Judged, profile: Profile) -> None:
    paint, width = paint_for(sys.stdout), max(0, width_of(sys.stdout) - _INDENT)
    for control, found in judged:
        word, colour = _word(control, found)
        head = f"{paint(word, colour, bold=True)}{' ' * (8 - len(word))}{control.id}: {control.asks}"
        typer.echo(f"{head} [{', '.join(control.references)}]" if control.references else head)
        for text in found.evidence:
            first, *more = wrapped(text, width, indent="  ")
            typer.echo("\n".join(f"{'':{_INDENT}}{line}" for line in (f"- {first}", *more)))
    failed = sum(found.holds is False and not control.advised for control, found in judged)
    of = f"of profile {profile.value}" if profile else "(the mesh has no profile)"
    typer.echo(
        f"\n{len(judged) - failed} of {len(judged)} controls {of} stand" + (f", {failed} fail" if failed else "")
    )


def _word(control: Control, found: Finding) -> tuple[str, str]:
    if found.holds is None:
        return "unknown", "yellow"
    if found.holds:
        return "holds", "green"
    return ("advised", "yellow") if control.advised else ("fails", "red")
