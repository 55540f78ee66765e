"""Rules that the kinds of the Gateway API share: hosts, references, durations.

Rules: the Gateway API reference, as its schemas enforce it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.gateway_api.common import BackendObjectReference
from gossamer.api.rules.common import check, check_length, check_pattern, check_port, written
from gossamer.api.rules.ingress import host_problem

GROUP: Final = r"|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
KIND: Final = r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?"
_DURATION: Final = r"([0-9]{1,5}(h|m|s|ms)){1,4}"


def check_hostname(host: str, at: At) -> None:
    """A precise name, or `*.` and one."""
    if check_length(host, 1, 253, at):
        check(host_problem(host), at, "invalid-host")


def check_section_name(name: str, at: At) -> None:
    """For the name of a listener or of a rule."""
    if check_length(name, 1, 253, at):
        check(names.object_name_problem(name), at, "invalid-name")


def check_reference(group: str, kind: str, name: str, namespace: str, at: At) -> None:
    check_pattern(group, GROUP, at["group"])
    check_pattern(kind, KIND, at["kind"])
    check_length(name, 1, 253, at["name"])
    if namespace:
        check(names.namespace_problem(namespace), at["namespace"], "invalid-name")


def check_backend(backend: BackendObjectReference, at: At) -> None:
    """A Service needs its port, for it may have several."""
    check_reference(backend.group, backend.kind, backend.name, backend.namespace, at)
    if backend.port is not None:
        check_port(backend.port, at["port"])
    elif (backend.group, backend.kind) == ("", "Service"):
        at["port"].error("required", "Must have port for Service reference")


def check_written_durations(raw: Any, fields: Mapping[str, At]) -> None:
    """The Gateway API's durations are narrower than Go's: whole numbers of h, m, s and ms."""
    for name, at in fields.items():
        text = written(raw, name)
        if isinstance(text, str):
            check_pattern(text, _DURATION, at, "a duration is 1h30m, 5s or 250ms")
