"""Whom policies with action CUSTOM have requests decided by: the authorizing providers of MeshConfig, their services
found.

Invariant: an authorizer either can be asked or says why not; nothing else decides what a policy does with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gossamer.api.extension_provider import EnvoyExternalAuthorizationGrpcProvider, MeshExtensionProvider
from gossamer.api.positions import path_text
from gossamer.api.rules.extension_provider import Authorization, provider_problems
from gossamer.core.frozen import FrozenMap, Value
from gossamer.model.service import Service


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Authorizer(Value):
    """A provider that is asked for decisions. `host` and `namespace` are its service's; with a `problem` nobody can be
    asked, and what would be asked about is denied."""

    name: str
    spec: Authorization | None = None
    host: str = ""
    namespace: str = ""
    problem: str = ""

    @property
    def port(self) -> int:
        return self.spec.port if self.spec is not None else 0

    def can_decide(self, *, tcp: bool) -> bool:
        """Whether it can be asked about requests, or about connections that carry none: those only over gRPC."""
        return not self.problem and (not tcp or isinstance(self.spec, EnvoyExternalAuthorizationGrpcProvider))


def build_authorizers(
    providers: tuple[MeshExtensionProvider, ...], services: tuple[Service, ...]
) -> FrozenMap[str, Authorizer]:
    """The authorizing providers by name; of several of one name the first counts."""
    found: dict[str, Authorizer] = {}
    for provider in providers:
        spec = provider.envoy_ext_authz_grpc or provider.envoy_ext_authz_http
        if provider.name not in found:
            found[provider.name] = (
                _authorizer(provider, spec, services)
                if spec is not None
                else Authorizer(name=provider.name, problem="it decides nothing")
            )
    return FrozenMap(found)


def chosen_authorizer(names: Iterable[str], known: FrozenMap[str, Authorizer]) -> Authorizer | None:
    """Who is asked where policies name these providers: one workload asks one. None where none is named."""
    wanted = sorted(set(names))
    if not wanted:
        return None
    if len(wanted) > 1:
        return Authorizer(name="+".join(wanted), problem=f"a workload can ask one provider, not {', '.join(wanted)}")
    return known.get(wanted[0]) or Authorizer(name=wanted[0], problem=f"MeshConfig has no provider {wanted[0]}")


def _authorizer(provider: MeshExtensionProvider, spec: Authorization, services: tuple[Service, ...]) -> Authorizer:
    for path, problem in provider_problems(provider):
        return Authorizer(name=provider.name, spec=spec, problem=f"{path_text(path)}: {problem}")
    namespace, _, host = spec.service.rpartition("/")
    host = host.lower().removesuffix(".")
    named = [one for one in services if one.hostname == host and namespace in ("", one.namespace)]
    if len(named) != 1:
        problem = f"several services are called {spec.service}" if named else f"there is no service {spec.service}"
        return Authorizer(name=provider.name, spec=spec, problem=problem)
    if named[0].port(spec.port) is None:
        return Authorizer(name=provider.name, spec=spec, problem=f"{host} has no port {spec.port}")
    return Authorizer(name=provider.name, spec=spec, host=host, namespace=named[0].namespace)
