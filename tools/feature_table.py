"""Write docs/istio-api.md: what becomes of every field of Istio's API and of the Gateway API.

The rows are read off the typed specs, and what is said of them off the tables that validation goes by, so that a new
field shows up by itself. With --check nothing is written: the page must be up to date, and no field of the list of
Istio's own, istio_fields.txt, may be missing. With --json the rows are printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, get_args

from gossamer.api.common import StringMatch, json_name
from gossamer.api.gateway_api.common import GATEWAY_API
from gossamer.api.kinds import ISTIO_GROUPS, KINDS, UNSUPPORTED_KINDS
from gossamer.api.mesh_config import MeshConfig
from gossamer.api.mesh_networks import MeshNetworks
from gossamer.api.no_effect import NO_EFFECT
from gossamer.api.refused import REFUSED
from gossamer.api.structure import hints_of, message_in, name_of
from gossamer.api.unsupported import NO_EFFECT_YET, UNSUPPORTED, WARNED
from gossamer.core.frozen import FrozenMap

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "istio-api.md"
FIELDS: Final = ROOT / "tools" / "istio_fields.txt"


class Status(StrEnum):
    SUPPORTED = "supported"
    PARTLY = "partly"
    NOT_YET = "not yet"
    NO_EFFECT = "no effect"
    REFUSED = "refused"


SPOKEN_OF: Final[dict[tuple[str, str], tuple[Status, str]]] = {
    ("VirtualService", "http[].fault.delay.exponentialDelay"): (Status.REFUSED, "Istio reserves it"),
    ("VirtualService", "http[].fault.abort.http2Error"): (Status.REFUSED, "Istio reserves it"),
    ("Gateway", "servers[].port.targetPort"): (Status.NO_EFFECT, "Istio ignores it too; warned of"),
    ("Gateway", "servers[].defaultEndpoint"): (Status.NO_EFFECT, "Istio ignores it too; warned of"),
    ("Sidecar", "ingress[].port.targetPort"): (Status.NO_EFFECT, "Istio ignores it too; warned of"),
    ("EnvoyFilter", "configPatches[].match.listener.portName"): (Status.NO_EFFECT, "Istio ignores it too; warned of"),
    ("EnvoyFilter", "configPatches[].match.waypoint"): (Status.NO_EFFECT, "there are no waypoint proxies; warned of"),
    ("WorkloadGroup", "template.address"): (Status.NO_EFFECT, "each workload has its own; warned of"),
    ("HTTPRoute", "rules[].filters[].externalAuth"): (
        Status.NOT_YET,
        "an AuthorizationPolicy with action CUSTOM asks an authorizer; an error says so of its type",
    ),
    ("HTTPRoute", "rules[].filters[].extensionRef"): (
        Status.NOT_YET,
        "an EnvoyFilter, a WasmPlugin or a TrafficExtension adds a filter; an error says so of its type",
    ),
    ("WasmPlugin", "verificationKey"): (Status.NO_EFFECT, "Istio verifies no signatures either; warned of"),
    ("TrafficExtension", "wasm.verificationKey"): (Status.NO_EFFECT, "Istio verifies no signatures either; warned of"),
    ("MeshNetworks", "networks"): (
        Status.NOT_YET,
        "read by nothing: agents of a mesh reach one another directly, whatever network their workloads name",
    ),
    ("Gateway.gateway.networking.k8s.io", "listeners[].tls.mode"): (Status.PARTLY, "not `Passthrough`"),
    **{("Sidecar", f"ingress[].tls.{name}"): (Status.REFUSED, "Istio refuses it here too") for name in (
        "httpsRedirect", "credentialName", "credentialNames", "caCertCredentialName", "tlsCertificates",
        "subjectAltNames",
    )},
    **{(kind, f"{name}.namespace"): (Status.REFUSED, "Istio refuses it too") for kind, name in (
        ("EnvoyFilter", "targetRefs[]"), ("AuthorizationPolicy", "targetRef"), ("RequestAuthentication", "targetRef"),
        ("WasmPlugin", "targetRef"), ("TrafficExtension", "targetRefs[]"), ("Telemetry", "targetRef"),
    )},
}  # fmt: skip
"""Where a rule of its own says what becomes of a field: by kind and path, with all that is below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A field. `path` is from the spec, with [] for any item of a list and {} for any entry of a map; `message` and
    `attribute` say where it is kept."""

    kind: str
    path: str
    message: str
    attribute: str
    status: Status = Status.SUPPORTED
    why: str = ""


def specs() -> dict[str, tuple[str, type]]:
    """The kinds of the table: their heading and their spec, by `Kind.identity`."""
    found = {
        kind.identity: (f"{kind.name} (`{kind.group}`: {', '.join(kind.versions)})", kind.spec)
        for kind in KINDS.values()
        if kind.group in (*ISTIO_GROUPS, GATEWAY_API)
    }
    return {
        **found,
        "MeshConfig": ("MeshConfig, with the ProxyConfig of all proxies", MeshConfig),
        "MeshNetworks": ("MeshNetworks", MeshNetworks),
    }


def rows() -> Iterator[Row]:
    """Every field of every kind; a message that a kind holds in several places is told of once, at the first."""
    for kind, (_, spec) in specs().items():
        for row in fields_of(kind, spec, "", set()):
            status, why = verdict(kind, row.path)
            yield Row(kind=kind, path=row.path, message=row.message, attribute=row.attribute, status=status, why=why)


def fields_of(kind: str, spec: type, prefix: str, seen: set[Any]) -> Iterator[Row]:
    seen.add(spec)
    for field in fields(spec):
        hint = hints_of(spec)[field.name]
        path = prefix + name_of(field.name, hint)
        yield Row(kind=kind, path=path, message=spec.__name__, attribute=field.name)
        for suffix, message in messages(hint):
            if message is StringMatch and StringMatch not in seen:
                seen.add(StringMatch)
                for way in ("exact", "prefix", "regex"):
                    yield Row(kind=kind, path=f"{path}{suffix}.{way}", message="StringMatch", attribute="value")
            elif message is not StringMatch and message not in seen:
                yield from fields_of(kind, message, f"{path}{suffix}.", seen)


def messages(hint: Any, suffix: str = "") -> Iterator[tuple[str, Any]]:
    """The messages that a field holds, with [] or {} for what is around them."""
    if hint == StringMatch or hint == StringMatch | None:
        yield suffix, StringMatch
        return
    inner = message_in(hint)
    if is_dataclass(inner):
        yield suffix, inner
        return
    arguments = get_args(inner)
    if arguments:
        around = "{}" if getattr(inner, "__origin__", None) is FrozenMap else "[]"
        yield from messages(arguments[-1 if around == "{}" else 0], suffix + around)


def verdict(kind: str, path: str) -> tuple[Status, str]:
    """What becomes of a field, and why."""
    for (of, beginning), said in SPOKEN_OF.items():
        if of == kind and _is_within(path, beginning):
            return said
    for beginning, why in NO_EFFECT.get(kind, {}).items():
        if _is_within(path, beginning):
            return Status.NO_EFFECT, why
    for pattern, refusal in REFUSED.get(kind, {}).items():
        beginning, _, values = pattern.partition("=")
        if values and beginning == path:
            return Status.PARTLY, _sentence(f"not `{values}`: {refusal.why}", refusal.instead)
        if not values and _is_within(path, beginning):
            return Status.REFUSED, _sentence(refusal.why, refusal.instead)
    if kind in NO_EFFECT_YET:
        return Status.NOT_YET, "read and checked; a warning says that nothing acts on it yet"
    for pattern, said in UNSUPPORTED.get(kind, {}).items():
        beginning, _, values = pattern.partition("=")
        if values and beginning == path:
            return Status.PARTLY, f"not {', '.join(f'`{value}`' for value in values.split('|'))}: {said}"
        if not values and _is_within(path, beginning):
            return Status.NOT_YET, _sentence(said, _consequence(kind))
    return Status.SUPPORTED, ""


def _sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _consequence(kind: str) -> str:
    return "a warning says so, and it is left out" if kind in WARNED else "an error says so"


def _is_within(path: str, beginning: str) -> bool:
    return path == beginning or path.startswith((f"{beginning}.", f"{beginning}[", f"{beginning}{{"))


def page() -> str:
    """The text of the page."""
    found = list(rows())
    count = {status: sum(row.status is status for row in found) for status in Status}
    parts = [
        _INTRODUCTION.format(total=len(found), **{str(status).replace(" ", "_"): count[status] for status in Status})
    ]
    for kind, (heading, _) in specs().items():
        parts.append(f"\n## {heading}\n\n| Field | | |\n| --- | --- | --- |\n")
        parts += [f"| `{row.path}` | {row.status} | {row.why} |\n" for row in found if row.kind == kind]
    parts.append("\n## Kinds that are not read\n\n")
    for group, names in UNSUPPORTED_KINDS.items():
        parts.append(f"- {', '.join(names)} (`{group or 'v1'}`)\n")
    return "".join(parts)


_INTRODUCTION: Final = """# Istio's API and the Gateway API, field by field

<!-- Written by tools/feature_table.py; do not edit. -->

What becomes of each of {total} fields. A message that a kind holds in several places is told of once. No field is
passed over in silence: what is not acted on is said by `gossamer validate`, with file and line.

| | Fields | Meaning |
| --- | --- | --- |
| supported | {supported} | does what Istio, or the Gateway API, documents |
| partly | {partly} | does so but for the values that are named |
| not yet | {not_yet} | nothing acts on it yet; the last column says what happens instead |
| no effect | {no_effect} | has no meaning here, for the reason given |
| refused | {refused} | turned down for the reason given: an error, or in MeshConfig a warning, and it is left out |
"""


def missing() -> list[str]:
    """Fields of Istio's list that the table does not have."""
    known = {(row.kind, row.message, row.attribute) for row in rows()}
    return [line for line in FIELDS.read_text().splitlines() if not _leads_to(line, known)]


def _leads_to(line: str, known: set[tuple[str, str, str]]) -> bool:
    """Whether the path of a field leads through the typed specs to a row of the table."""
    kind, *steps = line.split(".")
    holder: Any = specs()[kind][1]
    for place, step in enumerate(steps):
        if holder is StringMatch:
            return (
                place == len(steps) - 1
                and step in ("exact", "prefix", "regex")
                and (kind, "StringMatch", "value") in known
            )
        bare = step.rstrip("[]{}")
        attributes = {name_of(field.name, hints_of(holder)[field.name]): field.name for field in fields(holder)}
        attribute = attributes.get(bare) or next(
            (name for name in attributes.values() if json_name(name) == bare), None
        )
        if attribute is None:
            return False
        if place == len(steps) - 1:
            return (kind, holder.__name__, attribute) in known
        holder = next((message for _, message in messages(hints_of(holder)[attribute])), None)
        if holder is None:
            return False
    return False


def main(arguments: list[str]) -> int:
    if "--json" in arguments:
        sys.stdout.write(json.dumps([[row.kind, row.path, row.message, row.attribute, row.status] for row in rows()]))
        return 0
    if "--check" not in arguments:
        PAGE.write_text(page())
        return 0
    gone = missing()
    for line in gone:
        sys.stderr.write(f"no row of the table is about {line}\n")
    unknown = [
        f"{kind} {path}" for kind, path in SPOKEN_OF if not any(r.kind == kind and r.path == path for r in rows())
    ]
    for line in unknown:
        sys.stderr.write(f"SPOKEN_OF is about {line}, which is no field\n")
    fresh = PAGE.exists() and PAGE.read_text() == page()
    if not fresh:
        sys.stderr.write("docs/istio-api.md is out of date: run tools/feature_table.py\n")
    return 0 if fresh and not gone and not unknown else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
