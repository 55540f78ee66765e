"""The workload's side of a rule: operations, and conditions on the destination.

Invariant: a port is the workload's own, whichever port the connection really arrived on (`ports`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Final

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.rbac.v3.rbac_pb2 import Permission, SourcedMetadata
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.path.match.uri_template.v3.uri_template_match_pb2 import UriTemplateMatchConfig
from envoy.type.matcher.v3.path_pb2 import PathMatcher

from gossamer.api.authorization_policy import Condition, Operation
from gossamer.compile.draft import pack
from gossamer.compile.policies import strings
from gossamer.compile.policies.ports import LocalPorts
from gossamer.compile.policies.principals import KEYED, metadata_matcher
from gossamer.compile.streams import cidr

ANY: Final = Permission(any=True)
NEVER: Final = Permission(not_rule=ANY)
_TEMPLATE: Final = re.compile(r"\{(\*\*?)\}")

Part = Callable[[str], Permission]


class Destinations:
    """How operations are read at one proxy: by where its connections arrive."""

    __slots__ = ("_arrived_here", "_ports", "_real")

    def __init__(self, ports: LocalPorts) -> None:
        self._ports = ports
        self._real = frozenset(ports.bound.values())
        self._arrived_here = _any([Permission(destination_ip=cidr(address)) for address in ports.addresses] or [ANY])

    def operation(self, operation: Operation) -> Permission:
        """One `to[].operation`."""
        return permission_of(
            [
                *_among(operation.hosts, operation.not_hosts, _host),
                *_among(operation.methods, operation.not_methods, _method),
                *_among(operation.paths, operation.not_paths, _path),
                *_among(operation.ports, operation.not_ports, self._port),
            ]
        )

    def condition(self, condition: Condition) -> list[Permission] | None:
        """What one `when[]` asks of the destination; None when it asks about the caller."""
        plain: dict[str, Part] = {
            "destination.ip": self._address,
            "destination.port": self._port,
            "connection.sni": lambda value: Permission(requested_server_name=strings.text(value)),
        }
        part = plain.get(condition.key) or _experimental(condition.key)
        return _among(condition.values, condition.not_values, part) if part is not None else None

    def _port(self, value: str) -> Permission:
        number = int(value)
        real = self._ports.bound.get(number, number)
        dialled = Permission(destination_port=number)
        if real == number:
            return dialled if number not in self._real or number in self._ports.bound else self._if_captured(dialled)
        bound = self._unless_captured(Permission(destination_port=real))
        if not self._ports.captured:
            return bound
        return _any([bound, self._if_captured(dialled) if number in self._real else dialled])

    def _address(self, block: str) -> Permission:
        """The workload's address, whichever address a mesh port is bound to."""
        arrived = Permission(destination_ip=cidr(block))
        if not self._ports.addresses:
            return arrived
        network = ipaddress.ip_network(block, strict=False)
        own = any(ipaddress.ip_address(address) in network for address in self._ports.addresses)
        for_mesh = _any([Permission(destination_port=port) for port in sorted(self._real)])
        elsewhere = self._unless_captured(for_mesh)
        return _any([arrived, elsewhere]) if own else permission_of([arrived, Permission(not_rule=elsewhere)])

    def _if_captured(self, part: Permission) -> Permission:
        """`part`, for a connection that came with its original destination; never where none does."""
        if not self._ports.captured:
            return NEVER
        return permission_of([part, self._arrived_here]) if self._ports.addresses else part

    def _unless_captured(self, part: Permission) -> Permission:
        if not self._ports.captured or not self._ports.addresses:
            return part
        return permission_of([part, Permission(not_rule=self._arrived_here)])


def permission_of(parts: list[Permission]) -> Permission:
    """All of the parts; anything when there are none."""
    if not parts:
        return ANY
    return parts[0] if len(parts) == 1 else Permission(and_rules=Permission.Set(rules=parts))


def _experimental(key: str) -> Part | None:
    """`experimental.FILTER[KEY]`: metadata that a filter left."""
    found = KEYED.fullmatch(key)
    if found is None or not key.startswith("experimental."):
        return None
    filter_name, path = found.group(1).removeprefix("experimental."), found.group(2)[1:-1]
    return lambda value: Permission(
        sourced_metadata=SourcedMetadata(metadata_matcher=metadata_matcher(filter_name, path, value))
    )


def _host(pattern: str) -> Permission:
    if pattern == "*":
        return Permission(header=HeaderMatcher(name=":authority", present_match=True))
    return Permission(header=HeaderMatcher(name=":authority", string_match=strings.text(pattern, ignore_case=True)))


def _method(pattern: str) -> Permission:
    if pattern == "*":
        return Permission(header=HeaderMatcher(name=":method", present_match=True))
    return Permission(header=HeaderMatcher(name=":method", string_match=strings.text(pattern)))


def _path(pattern: str) -> Permission:
    if not _TEMPLATE.search(pattern):
        return Permission(url_path=PathMatcher(path=strings.text(pattern)))
    template = UriTemplateMatchConfig(path_template=_TEMPLATE.sub(r"\1", pattern))
    return Permission(uri_template=TypedExtensionConfig(name="uri-template", typed_config=pack(template)))


def _among(values: Iterable[str], excluded: Iterable[str], part: Part) -> list[Permission]:
    wanted, unwanted = [part(value) for value in values], [part(value) for value in excluded]
    found = [_any(wanted)] if wanted else []
    return [*found, Permission(not_rule=_any(unwanted))] if unwanted else found


def _any(parts: list[Permission]) -> Permission:
    return parts[0] if len(parts) == 1 else Permission(or_rules=Permission.Set(rules=parts))
