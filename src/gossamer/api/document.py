"""One document to the resources in it, with everything that is wrong with them.

`read_document` is a pure function of the document's text, so that a file in which one of a thousand documents changed
costs the reading of one.

Invariant: each resource of a readable document has an entry, whether it is valid or not, and each that is not valid
has an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from gossamer.api.fail_closed import deny_selected, require_mutual_tls
from gossamer.api.findings import At, Finding
from gossamer.api.kinds import (
    COMPANIONS,
    ISTIO_GROUPS,
    KINDS,
    KNOWN_GROUPS,
    KNOWN_NAMES,
    UNSUPPORTED_KINDS,
    Kind,
)
from gossamer.api.metadata import Metadata, read_metadata
from gossamer.api.peer_authentication import PeerAuthentication
from gossamer.api.positions import Path, Place, find_places, path_text
from gossamer.api.reader import UnreadableError, read_value
from gossamer.api.resource import Resource
from gossamer.api.rules.common import BOOLEAN_TRUE
from gossamer.api.rules.security import DRY_RUN
from gossamer.api.structure import build_typed, closest, describe
from gossamer.api.unsupported import NO_EFFECT_YET, check_support
from gossamer.core.diagnostics import Diagnostic, Diagnostics, Position, Severity
from gossamer.core.ids import ResourceId


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A resource of a document. `attribute` is its place in Config; `resource` is None when it is not valid, so that
    its last valid version is to be used. `path` is where in the document it stands, `line` where it begins."""

    id: ResourceId
    attribute: str
    resource: Resource[Any] | None
    path: Path
    line: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What one document holds. Lines count from 1 within it, and its diagnostics name no file. `unreadable`: it is
    not known which resources it was meant to hold."""

    entries: tuple[Entry, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    unreadable: bool = False


def read_document(text: str) -> Reading:
    """What the text of one document says. Never raises."""
    try:
        value = read_value(text)
    except UnreadableError as error:
        position = Position(line=error.line, column=error.column)
        message = f"this document cannot be read: {error.message}"
        problem = Diagnostic(severity=Severity.ERROR, code="invalid-yaml", message=message, position=position)
        return Reading(diagnostics=(problem,), unreadable=True)
    if value is None:
        return Reading()
    drafts = [_read_resource(raw, path) for path, raw in _flatten(value)]
    lines = _first_lines(text, [draft.path for draft in drafts])
    return Reading(
        entries=tuple(
            Entry(id=draft.id, attribute=draft.attribute, resource=draft.resource, path=draft.path, line=line)
            for draft, line in zip(drafts, lines, strict=True)
            if draft.id and draft.attribute
        ),
        diagnostics=diagnose(text, [(draft.id, finding) for draft in drafts for finding in draft.at.findings]),
        unreadable=any(draft.unreadable for draft in drafts),
    )


_NOT_CONTENT: Final = re.compile(r"(?:(?:---)?[ \t]*(?:#[^\n]*)?\r?\n|%[^\n]*\n)*")


def _first_lines(text: str, paths: list[Path]) -> list[int]:
    """The lines on which resources begin; without a second look at the text when it holds only one."""
    if paths != [()]:
        places = find_places(text, paths)
        return [places[path].line for path in paths]
    found = _NOT_CONTENT.match(text)
    return [text.count("\n", 0, found.end() if found else 0) + 1]


def _flatten(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """The resources of a document: its own, or those of a List."""
    if isinstance(value, dict) and str(value.get("kind")).endswith("List") and isinstance(value.get("items"), list):
        return [found for index, item in enumerate(value["items"]) for found in _flatten(item, (*path, "items", index))]
    return [(path, value)]


class _Draft:
    """A resource while it is read."""

    __slots__ = ("at", "attribute", "id", "path", "resource", "unreadable")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = At(path)
        self.id: ResourceId | None = None
        self.attribute = ""
        self.resource: Resource[Any] | None = None
        self.unreadable = False


def _read_resource(raw: Any, path: Path) -> _Draft:
    draft = _Draft(path)
    at = draft.at
    if not isinstance(raw, dict):
        at.error("invalid-type", f"expected a resource, a mapping with apiVersion and kind, not {describe(raw)}")
        draft.unreadable = True
        return draft
    version, name = raw.get("apiVersion"), raw.get("kind")
    for field, value in (("apiVersion", version), ("kind", name)):
        if not isinstance(value, str) or not value:
            at[field].error("required", f"Required value: a resource must have {field}")
            draft.unreadable = True
    if draft.unreadable:
        return draft
    group, _, api_version = str(version).rpartition("/")
    kind = KINDS.get((group, str(name)))
    if kind is None:
        _read_unsupported(raw, group, str(name), draft)
        return draft
    if api_version in kind.versions:
        _read_known(raw, kind, draft)
    else:
        expected = " or ".join(f"{group}/{known}".removeprefix("/") for known in kind.versions)
        at["apiVersion"].error("unknown-version", f"{kind.name} has no version {api_version}; expected {expected}")
        draft.id = _identity(raw, kind.identity, At())
        draft.unreadable = True
    return draft


def _identity(raw: dict[str, Any], kind: str, at: At) -> ResourceId:
    """Who a resource is, as far as that can be told."""
    metadata = read_metadata(raw.get("metadata"), at, namespaced=True)
    if metadata is None:
        return ResourceId(kind=kind)
    return ResourceId(kind=kind, namespace=metadata.namespace, name=metadata.name)


def _read_known(raw: dict[str, Any], kind: Kind, draft: _Draft) -> None:
    metadata = read_metadata(raw.get("metadata"), draft.at["metadata"], namespaced=kind.namespaced)
    if metadata is None:
        draft.unreadable = True
        draft.id = ResourceId(kind=kind.identity)
        return
    draft.id = ResourceId(kind=kind.identity, namespace=metadata.namespace, name=metadata.name)
    draft.attribute = kind.attribute
    body = raw.get(kind.body) if kind.body else raw
    spec = _read_spec(body, raw, kind, metadata, draft)
    at = draft.at[kind.body] if kind.body else draft.at
    whole = spec is not None and not check_support(kind.identity, body, at)
    dry_run = kind.name == "AuthorizationPolicy" and metadata.annotations.get(DRY_RUN) in BOOLEAN_TRUE
    if dry_run and draft.at.has_errors:
        draft.attribute = ""  # what enforces nothing protects nothing, so nothing has to deny in its stead
    elif kind.security and (draft.at.has_errors or not whole):
        draft.attribute = _DENIALS.get(kind.name, kind.attribute)
        draft.resource = _resource(draft.id, _denial(kind.name, body), metadata, fail_closed=True)
        _say_denial(draft)
    elif not draft.at.has_errors:
        draft.resource = _resource(draft.id, spec, metadata)
        if kind.identity in NO_EFFECT_YET:
            draft.at["kind"].warning("no-effect-yet", f"{kind.name} is read and checked, but nothing acts on it yet")


_DENIALS: Final = {"RequestAuthentication": "authorization_policies"}
"""The place in Config of what denies in the stead of a kind that cannot say so itself."""


def _read_spec(body: Any, raw: dict[str, Any], kind: Kind, metadata: Metadata, draft: _Draft) -> Any:
    """The typed spec; None, with errors, when there is none."""
    at = draft.at[kind.body] if kind.body else draft.at
    if kind.strict:
        for key in raw:
            if key not in _TOP_LEVEL:
                draft.at[key].error("unknown-field", f'unknown field "{key}"', closest(key, _TOP_LEVEL), on_key=True)
    if body is None and kind.needs_spec:
        at.error("required", 'spec in body must be of type object: "null"' if "spec" in raw else "spec: Required value")
        return None
    body = {} if body is None else body
    spec = build_typed(kind.spec, body, at)
    if spec is None:
        if kind.name == "Secret":
            draft.at.findings[:] = [_without_value(finding) for finding in draft.at.findings]
        return None
    assert draft.id is not None
    kind.check(_resource(draft.id, spec, metadata), body, at)
    return spec


_TOP_LEVEL: Final = ("apiVersion", "kind", "metadata", "spec", "status")


def _without_value(finding: Finding) -> Finding:
    """A Secret's mistakes, told without what is in it."""
    return Finding(
        severity=finding.severity,
        code=finding.code,
        message="the value here is not what a Secret holds: data is base64, stringData is text",
        path=finding.path,
    )


def _resource(id: ResourceId, spec: Any, metadata: Metadata, *, fail_closed: bool = False) -> Resource[Any]:
    return Resource(
        id=id,
        spec=spec,
        labels=metadata.labels,
        annotations=metadata.annotations,
        creation=metadata.creation,
        fail_closed=fail_closed,
    )


def _say_denial(draft: _Draft) -> None:
    spec = draft.resource.spec if draft.resource else None
    whom = "the workloads that it selects" if spec and spec.selector else "all workloads of its namespace"
    what = (
        f"{whom} accept nothing but mutual TLS"
        if isinstance(spec, PeerAuthentication)
        else f"{whom} deny every request"
    )
    draft.at.warning("fails-closed", f"as long as this is not resolved, {what}")


def _denial(kind: str, body: Any) -> Any:
    return require_mutual_tls(body) if kind == "PeerAuthentication" else deny_selected(body)


def _read_unsupported(raw: dict[str, Any], group: str, name: str, draft: _Draft) -> None:
    """A kind that is not read: say what it is to us."""
    at = draft.at
    known = name in UNSUPPORTED_KINDS.get(group, ())
    draft.id = _identity(raw, name, At())
    version = raw["apiVersion"]
    if known and (group, name) in COMPANIONS:
        at["kind"].warning("ignored-kind", f"{name} is not read; a Deployment, Service or WorkloadEntry is")
    elif known:
        at["kind"].error("unsupported-kind", f"{name} ({version}) is not supported yet")
    elif group in ISTIO_GROUPS or (group in KNOWN_GROUPS and closest(name, _names_in(group))):
        at["kind"].error("unknown-kind", f"{name} is no kind of {version}", closest(name, _names_in(group)))
        draft.unreadable = True
    elif name in KNOWN_NAMES and (hint := closest(group, KNOWN_GROUPS)):
        at["apiVersion"].error("unknown-group", f"{version} has no kind {name}", hint)
        draft.unreadable = True
    else:
        at["kind"].info("ignored-kind", f"{name} ({version}) means nothing to the mesh and is left alone")


def _names_in(group: str) -> list[str]:
    return [*(kind.name for kind in KINDS.values() if kind.group == group), *UNSUPPORTED_KINDS.get(group, ())]


def diagnose(text: str, findings: Iterable[tuple[ResourceId | None, Finding]], *, line: int = 0) -> Diagnostics:
    """Findings about a readable document as diagnostics, with their places; `line` lines come before it."""
    said = list(findings)
    places = find_places(text, [finding.path for _, finding in said]) if said else {}
    return tuple(_diagnostic(resource, finding, places[finding.path], line) for resource, finding in said)


def _diagnostic(resource: ResourceId | None, finding: Finding, place: Place, offset: int) -> Diagnostic:
    line, column = (place.key_line, place.key_column) if finding.on_key else (place.line, place.column)
    return Diagnostic(
        severity=finding.severity,
        code=finding.code,
        message=finding.message,
        kind=resource.kind if resource else "",
        namespace=resource.namespace if resource else "",
        name=resource.name if resource else "",
        path=path_text(place.path),
        position=Position(line=offset + line, column=column),
        hint=finding.hint,
    )
