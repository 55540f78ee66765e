"""`gossamer simulate`: one request through the proxies, and the YAML that decides about it.

Contract: the exit code is 0 when the request is served or answered as configured, 1 when it is not (denied, refused, no
route, nowhere to go), 2 for wrong usage.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gossamer.api.profile import Profile
from gossamer.cli.asking import GOOD, People, ask
from gossamer.cli.cast import build_cast
from gossamer.cli.inputs import FileOption, Inputs, MeshConfigOption, ProfileOption, given_files, load_inputs
from gossamer.cli.mesh_file import OpenedMesh, open_mesh
from gossamer.cli.question import Question, parse_headers, parse_url
from gossamer.cli.render import Output, print_data, print_diagnostics, texts_of
from gossamer.cli.simulate_view import print_answer
from gossamer.cli.token_check import check_token
from gossamer.core.errors import UsageError
from gossamer.core.memo import Memo

_URL_HELP = "http://, https://, tls:// or tcp:// HOST:PORT/PATH. What exists as a file is taken as one (-f *.yaml)."
_FROM_HELP = (
    "The caller: namespace/name, or namespace/label=value,... of a workload in the files or of one that might be."
)
_TO_HELP = "Ask only this workload's own sidecar, as if the request were already on its way to it."
_GATEWAY_HELP = "The request comes from outside, to this gateway: namespace/label=value,... or namespace/name."
_MESH_HELP = "A gossamer.yaml: its configuration is read, and its workloads are asked about."
_CHANCE_HELP = "Where chance decides (weights, faults): 0 up to 1; 0.3 is what 30 % and less fall on."


def command(
    words: Annotated[list[str], typer.Argument(metavar="URL [FILE]...", help=_URL_HELP)],
    files: FileOption = None,
    caller: Annotated[str, typer.Option("--from", metavar="WHO", help=_FROM_HELP)] = "",
    target: Annotated[str, typer.Option("--to", metavar="WHO", help=_TO_HELP)] = "",
    gateway: Annotated[str, typer.Option(metavar="WHO", help=_GATEWAY_HELP)] = "",
    method: Annotated[str, typer.Option("--method", "-X", help="The HTTP method.")] = "GET",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="A header; may be repeated.")
    ] = None,
    http2: Annotated[bool, typer.Option("--http2", help="The client speaks HTTP/2.")] = False,
    http3: Annotated[bool, typer.Option("--http3", help="The client speaks HTTP/3: only to a gateway.")] = False,
    service_account: Annotated[str, typer.Option(help="The caller's service account, in place of its own.")] = "",
    address: Annotated[str, typer.Option(metavar="IP", help="The address that the host has.")] = "",
    client_ip: Annotated[str, typer.Option(metavar="IP", help="The address that the client has.")] = "",
    chance: Annotated[float, typer.Option(min=0.0, max=0.999999, help=_CHANCE_HELP)] = 0.5,
    mesh: Annotated[Path | None, typer.Option(metavar="FILE", help=_MESH_HELP)] = None,
    mesh_config: MeshConfigOption = None,
    profile: ProfileOption = Profile.NONE,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = Output.TABLE,
) -> None:
    """Follow one request through the proxies, and name the YAML that decides about it.

    Exits with 0 if the request is served (or answered, or redirected), else with 1.

    [dim]gossamer simulate -f config/ --from default/productpage-v1 http://reviews:9080/ -H 'end-user: jason'[/dim]

    [dim]gossamer simulate -f config/ --gateway istio-system/istio=ingressgateway http://shop.example/cart[/dim]
    """
    url, more = _url_among(words)
    question = Question(
        url=parse_url(url),
        method=method.upper(),
        headers=parse_headers(header or ()),
        http2=http2,
        http3=http3,
        address=address,
        chance=chance,
        check=check_token,
    )
    people = People(caller=caller, target=target, gateway=gateway, service_account=service_account, client=client_ip)
    people.check()
    if http3 and (question.url.scheme != "https" or not gateway):
        raise UsageError("--http3 is spoken to a gateway, over TLS: give --gateway and an https:// URL")
    memo = Memo()
    opened = _opened(mesh) if mesh else None
    paths = [*opened.config, *(files or ()), *more] if opened else given_files(files, more)
    inputs = _inputs(paths, mesh_config, opened, profile, memo)
    errors = [diagnostic for diagnostic in inputs.diagnostics if diagnostic.is_error]
    print_diagnostics(errors, inputs.texts, file=sys.stderr)
    answer = ask(build_cast(inputs.loaded.config, memo, opened.specs if opened else ()), question, people)
    if output is Output.TABLE:
        print_answer(answer, inputs)
    else:
        print_data(answer.to_json(inputs.loaded.index), output)
    if answer.call.verdicts[0][0] not in GOOD:
        raise typer.Exit(1)


def _inputs(
    paths: list[Path], mesh_config: Path | None, opened: OpenedMesh | None, profile: Profile, memo: Memo
) -> Inputs:
    """The configuration; without --mesh-config and --profile, those of the mesh file hold."""
    profile = profile or (opened.profile if opened is not None else Profile.NONE)
    if mesh_config is None and opened is not None and opened.mesh_config is not None:
        return load_inputs(paths, opened.path, memo, key="meshConfig", profile=profile)
    return load_inputs(paths, mesh_config, memo, profile=profile)


def _opened(path: Path) -> OpenedMesh:
    """The mesh file; its mistakes are shown, and end the command."""
    opened, diagnostics = open_mesh(path)
    if opened is None:
        print_diagnostics(diagnostics, texts_of(diagnostics), file=sys.stderr)
        raise typer.Exit(1)
    return opened


def _url_among(words: list[str]) -> tuple[str, list[Path]]:
    """The URL among the arguments, and the files: a shell makes several words of `-f *.yaml`."""
    files = [Path(word) for word in words if Path(word).exists()]
    urls = [word for word in words if not Path(word).exists()]
    if len(urls) != 1:
        told = f"{len(urls)} were given: {', '.join(urls)}" if urls else "none was given"
        raise UsageError(f"one URL is simulated at a time; {told}")
    return urls[0], files
