"""`gossamer authz`: policies from what was seen: what a dry run would deny, what is needed, who speaks plaintext."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from gossamer.cli.authz_learn import Limits, learn
from gossamer.cli.authz_migrate import PERMISSIVE, STRICT, Call, Standing, existing, standing, standings, step_yaml
from gossamer.cli.authz_seen import SeenMesh, ask_seen, moment, seen_json
from gossamer.cli.authz_shadow import Shadow, shadows, tried
from gossamer.cli.authz_step import follow_step, write_step
from gossamer.cli.authz_yaml import policies_yaml
from gossamer.cli.durations import load_duration
from gossamer.cli.proxy import OutputOption, StateOption
from gossamer.cli.render import Output, print_data, print_table
from gossamer.core.errors import UsageError

app = typer.Typer(no_args_is_help=True)
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Of this namespace alone.")]
TimeOption = Annotated[str, typer.Option("--min-time", metavar="DURATION", help="For how long it has to be seen.")]
_SEEN_COLUMNS: Final = ("FROM", "TO", "PORT", "WHAT", "VERDICT", "BY", "TIMES", "LAST")
_SHADOW_COLUMNS: Final = ("WOULD BE", "BY", "FROM", "TO", "PORT", "WHAT", "TIMES", "SINCE", "LAST")
_CALL_COLUMNS: Final = ("CALLER", "TO", "PORT", "WHAT", "TIMES", "LAST")


@app.command()
def seen(
    namespace: NamespaceOption = "",
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List what sidecars have seen: who asked what of whom, and what was decided by which policy."""
    mesh = ask_seen(state)
    found = [one for one in mesh.workloads if namespace in ("", one.namespace)]
    if output is not Output.TABLE:
        print_data([seen_json(one) for one in found], output)
        return
    print_table(
        _SEEN_COLUMNS,
        [
            (row.who, one.key, str(row.port), row.what, row.verdict, row.by or "-", str(row.count), moment(row.last))
            for one in found
            for row in one.rows
        ],
    )
    for one in found:
        if one.gaps:
            typer.echo(f"{one.key}: {one.gaps}")
        if one.running and not (one.observed and one.reporting):
            typer.echo(f"{one.key}: host {one.host} does not report what comes in there")


@app.command()
def shadow(
    namespace: NamespaceOption = "",
    since: Annotated[str, typer.Option(metavar="DURATION", help="Only what was seen so long ago or later.")] = "",
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what policies in a dry run would have denied, from whom, to what, how often.

    [dim]A policy is tried before it is enforced by the annotation istio.io/dry-run: "true".[/dim]
    """
    mesh = ask_seen(state)
    after = mesh.now - load_duration(since).total_seconds() if since else 0.0
    rows, policies = shadows(mesh, namespace, after), tried(mesh, namespace)
    if output is not Output.TABLE:
        listed = [{"policy": one.policy, "seen": one.seen, "hits": one.hits} for one in policies]
        print_data({"policies": listed, "calls": [row.to_json() for row in rows]}, output)
        return
    if not policies:
        typer.echo('No policy is in a dry run; annotate one with istio.io/dry-run: "true".')
        return
    if rows:
        print_table(_SHADOW_COLUMNS, [_cells(row) for row in rows])
    for one in policies:
        if not one.hits:
            typer.echo(f"{one.policy}: would have changed nothing in {one.seen} calls.")


def _cells(row: Shadow) -> tuple[str, ...]:
    numbers = str(row.port), row.what, str(row.count), moment(row.first), moment(row.last)
    return (row.would, row.policy, row.caller, row.destination, *numbers)


@app.command("learn")
def learn_command(
    namespace: NamespaceOption = "",
    out: Annotated[Path | None, typer.Option(help="Write them here instead of printing them.")] = None,
    min_requests: Annotated[int, typer.Option(min=1, help="How many requests a service has to be seen with.")] = 100,
    min_time: TimeOption = "24h",
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out services of which too little was seen.")
    ] = False,
    deny_by_default: Annotated[
        bool, typer.Option("--deny-by-default", help="Add the policy that denies what no other allows.")
    ] = False,
    state: StateOption = None,
) -> None:
    """Write the AuthorizationPolicies that the traffic seen needs, and no wider ones; exit 1 if too little was seen."""
    mesh = ask_seen(state)
    if deny_by_default and namespace == mesh.root_namespace:
        raise UsageError(f"what closes {namespace} closes every namespace; leave --namespace out")
    limits = Limits(requests=min_requests, seconds=load_duration(min_time).total_seconds())
    learnt = learn(mesh, limits, namespace)
    for line in learnt.unseen:
        typer.echo(f"not seen: {line}", err=True)
    for line in learnt.missing:
        typer.secho(f"too little: {line}", err=True, fg="red" if sys.stderr.isatty() else None)
    if not learnt.policies or (learnt.missing and not partial):
        typer.echo("Nothing is concluded.", err=True)
        raise typer.Exit(1)
    text = policies_yaml(learnt, mesh.now, deny_by_default=deny_by_default)
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
        typer.echo(f"{out}: {len(learnt.policies)} policies", err=True)


@app.command()
def migrate(
    namespace: Annotated[str, typer.Argument(help="The next to move; without it, how all of them stand.")] = "",
    back: Annotated[bool, typer.Option("--back", help="Back to PERMISSIVE.")] = False,
    write: Annotated[
        Path | None, typer.Option(help="Write the step into this file: a new one, or one that was written so.")
    ] = None,
    min_time: TimeOption = "24h",
    wait: Annotated[str, typer.Option(metavar="DURATION", help="How long to look at what --write did.")] = "30s",
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move from plaintext to STRICT mutual TLS, namespace by namespace; exit 1 if somebody would be refused."""
    seconds = load_duration(min_time).total_seconds()
    mesh = ask_seen(state)
    if not namespace:
        if back or write:
            raise UsageError("which namespace? a step is about one; the root namespace stands for the mesh")
        _overview(standings(mesh, seconds), output)
        return
    found = standing(mesh, namespace, seconds)
    if output is not Output.TABLE:
        print_data(found.to_json(), output)
    else:
        _detail(found)
    if not back and found.done:
        return
    if not back and found.problems:
        raise typer.Exit(1)
    _step(mesh, namespace, PERMISSIVE if back else STRICT, write, output)
    if write is not None:
        until = time.monotonic() + load_duration(wait).total_seconds()
        follow_step(lambda: ask_seen(state), namespace, PERMISSIVE if back else STRICT, mesh.now, until)


def _step(mesh: SeenMesh, namespace: str, mode: str, write: Path | None, output: Output) -> None:
    peer = existing(mesh, namespace)
    text = step_yaml(namespace, mode, peer.name if peer else "default")
    if write is not None:
        write_step(write, text, namespace, peer)
        typer.echo(f"{write}: {namespace} to {mode}", err=True)
    elif output is Output.TABLE:
        if peer is not None and peer.file:
            typer.echo(f"In place of what stands in {peer.file}:{peer.line}:\n")
        sys.stdout.write(text)


def _overview(found: tuple[Standing, ...], output: Output) -> None:
    if output is not Output.TABLE:
        print_data([one.to_json() for one in found], output)
        return
    rows = [
        (
            one.namespace,
            ", ".join(one.modes) or "-",
            str(one.workloads),
            str(sum(call.count for call in one.plaintext)),
            str(sum(call.count for call in one.refused)),
            "done" if one.done else "not ready" if one.problems else "ready",
        )
        for one in found
    ]
    print_table(("NAMESPACE", "MODE", "WORKLOADS", "PLAINTEXT CALLS", "REFUSED", "STRICT"), rows)
    for one in found:
        if not one.done:
            for problem in one.problems:
                typer.echo(f"{one.namespace}: {problem}")
    following = next((one.namespace for one in found if not one.done and not one.problems), "")
    if following:
        typer.echo(f"\nNext: gossamer authz migrate {following}")


def _detail(found: Standing) -> None:
    for title, calls in (("plaintext", found.plaintext), ("refused", found.refused)):
        if calls:
            print_table(_CALL_COLUMNS, [_call(call) for call in calls], title=f"{found.namespace}: {title}")
    for note in found.notes:
        typer.echo(f"{found.namespace}: {note}")
    for problem in () if found.done else found.problems:
        typer.echo(f"{found.namespace}: {problem}", err=True)
    if found.done:
        typer.echo(f"{found.namespace} is STRICT.")


def _call(call: Call) -> tuple[str, ...]:
    what = ", ".join(call.what[:5]) + (f" and {len(call.what) - 5} more" if len(call.what) > 5 else "")
    return (call.caller, call.destination, str(call.port), what, str(call.count), moment(call.last))
