"""`gossamer validate`: what is wrong with configuration.

Contract: `-o json` prints a list of {severity, code, kind, namespace, name, path, message, file, line, ...}; the exit
code is 1 if any of them is an error, 0 otherwise, 2 for wrong usage. Fields are only ever added.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from gossamer.api.profile import Profile
from gossamer.cli.inputs import (
    FileOption,
    Inputs,
    MeshConfigOption,
    MoreFiles,
    ProfileOption,
    given_files,
    load_inputs,
    patches_envoy,
)
from gossamer.cli.render import Output, print_data, print_diagnostics, print_table, summary, where
from gossamer.core.diagnostics import Diagnostic


def command(
    files: FileOption = None,
    more: MoreFiles = None,
    mesh_config: MeshConfigOption = None,
    profile: ProfileOption = Profile.NONE,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print a list instead of annotated source lines.")
    ] = None,
    envoy: Annotated[
        bool, typer.Option("--envoy/--no-envoy", help="Try EnvoyFilters and extensions on the installed Envoy.")
    ] = True,
) -> None:
    """Check configuration and say what is wrong with it, line by line.

    Exits with 1 if there is an error, with 0 if there are at most warnings.

    [dim]gossamer validate -f config/ -f more.yaml[/dim]
    """
    inputs = load_inputs(given_files(files, more), mesh_config, profile=profile)
    if envoy and patches_envoy(inputs.loaded.config):
        from gossamer.cli.ask_envoy import ask_envoy  # noqa: PLC0415 - takes long, and few need it

        inputs = replace(inputs, diagnostics=(*inputs.diagnostics, *ask_envoy(inputs.loaded)))
    show(inputs, output)
    if any(diagnostic.is_error for diagnostic in inputs.diagnostics):
        raise typer.Exit(1)


def show(inputs: Inputs, output: Output | None) -> None:
    """Print what was found."""
    if output is Output.TABLE:
        columns = ("SEVERITY", "CODE", "WHERE", "RESOURCE", "FIELD", "MESSAGE")
        print_table(columns, [_row(diagnostic) for diagnostic in inputs.diagnostics])
    elif output is not None:
        print_data([diagnostic.to_json() for diagnostic in inputs.diagnostics], output)
    else:
        print_diagnostics(inputs.diagnostics, inputs.texts)
        sys.stdout.write(summary(inputs.diagnostics, len(inputs.texts), len(inputs.loaded.index)) + "\n")


def _row(diagnostic: Diagnostic) -> Sequence[str]:
    return (
        diagnostic.severity,
        diagnostic.code,
        where(diagnostic.position) if diagnostic.position.file else "",
        str(diagnostic.resource) if diagnostic.kind else "",
        diagnostic.path,
        diagnostic.message,
    )
