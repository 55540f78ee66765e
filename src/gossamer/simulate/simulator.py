"""What Envoy would do with one connection or request, on the bytes that it is sent.

Invariant: pure. The same resources and the same request always give the same Outcome, and no request makes it raise:
configuration that is not simulated ends in the verdict UNKNOWN.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from envoy.extensions.filters.network.direct_response.v3.config_pb2 import Config as DirectResponse
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.sni_dynamic_forward_proxy_pb2 import (
    FilterConfig as ServerNameLookup,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy

from gossamer.core.resources import Resources
from gossamer.simulate.chains import find_chain
from gossamer.simulate.connection import Connection, Trace
from gossamer.simulate.http import simulate_http
from gossamer.simulate.index import ChainConfig, Decoder, ListenerConfig
from gossamer.simulate.listeners import find_listener, inspect
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.origins import origins_in
from gossamer.simulate.outcome import ClusterWeight, Outcome, Verdict
from gossamer.simulate.policies import ask, judge
from gossamer.simulate.rbac import Facts
from gossamer.simulate.request import Address, Request
from gossamer.simulate.route_action import connect
from gossamer.simulate.transport import accept, pins

_SILENT: Final = frozenset({"MongoProxy", "MySQLProxy", "PostgresProxy", "ZooKeeperProxy", "SniCluster"})
"""Network filters that pass everything on, by the last word of their type."""


def simulate(resources: Resources, request: Request) -> Outcome:
    """What an Envoy that holds these resources would do with the request."""
    return Simulator(resources).simulate(request)


class Simulator:
    """The same for many requests: each resource is decoded once, when it is first needed."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._decoder = Decoder(resources)

    def simulate(self, request: Request) -> Outcome:
        """What an Envoy that holds these resources would do with the request."""
        trace = Trace()
        try:
            return self._connect(request, trace)
        except NotSimulatedError as error:
            return trace.end(Verdict.UNKNOWN, f"not simulated: {error}")

    def listens_at(self, address: Address) -> bool:
        """Whether one of the listeners is bound to this very address."""
        return any(address in found.addresses for found in self._decoder.listeners if found.bound)

    def _connect(self, request: Request, trace: Trace) -> Outcome:
        found = find_listener(self._decoder.listeners, request)
        if found is None:
            where = f"at {request.destination}" if request.arrival == "direct" else f"for {request.arrival} traffic"
            return trace.end(Verdict.REFUSED, f"nothing listens {where}")
        listener, destination = found
        trace.outcome = replace(
            trace.outcome, listener=listener.name, listener_address=str(next(iter(listener.addresses), ""))
        )
        connection = Connection(request=request, destination=destination, source=request.source)
        inspect(listener, connection, trace)
        chain = find_chain(listener, connection, trace)
        if chain is None:
            trace.origins.append(listener.origins)
            reason = f"no filter chain of {listener.name} takes {_offered(connection)} on port {destination.port}"
            return trace.end(Verdict.REFUSED, reason, flag="NR")
        trace.outcome = replace(trace.outcome, filter_chain=chain.name)
        return self._accept(listener, chain, connection, trace)

    def _accept(self, listener: ListenerConfig, chain: ChainConfig, connection: Connection, trace: Trace) -> Outcome:
        problem = accept(chain, connection)
        if connection.peer is not None and pins(chain):
            trace.note("the client's certificate is taken to be one of those whose hash or key is accepted here")
        if problem:
            trace.origins.append(origins_in(chain.message.metadata) or listener.origins)
            return trace.end(Verdict.REFUSED, problem)
        trace.outcome = replace(trace.outcome, transport=_transport(connection))
        return self._filter(chain, connection, trace)

    def _filter(self, chain: ChainConfig, connection: Connection, trace: Trace) -> Outcome:
        facts = _facts(connection)
        for found in chain.filters:
            match found.config:
                case rbac_pb2.RBAC():
                    ended = judge(found, facts, trace)
                    if ended is not None:
                        return replace(ended, protocol="tcp")
                case ext_authz_pb2.ExtAuthz():
                    ask(found, facts, trace)
                case ServerNameLookup():
                    connection.looked_up = Address(ip=connection.server_name, port=found.config.port_value)
                    facts.looked_up = connection.looked_up.ip
                case HttpConnectionManager():
                    return simulate_http(found.config, connection, self._decoder, trace)
                case TcpProxy():
                    trace.outcome = replace(trace.outcome, protocol="tcp")
                    name, clusters = _tcp_cluster(found.config, connection.request.chance)
                    if found.config.HasField("tunneling_config"):
                        method = "POST" if found.config.tunneling_config.use_post else "CONNECT"
                        trace.note(f"through a tunnel ({method}) to {found.config.tunneling_config.hostname}")
                    return connect(name, clusters, connection, self._decoder, trace)
                case DirectResponse():
                    return trace.end(Verdict.ANSWERED, "the proxy answers by itself and closes the connection")
                case None if found.type not in _SILENT:
                    trace.note(f"the filter {found.name} ({found.type}) was passed over")
        raise NotSimulatedError(f"the filter chain {chain.name} without a last filter that is known")


def _offered(connection: Connection) -> str:
    """What the client sends, in words."""
    tls = connection.request.tls
    if tls is None:
        return "plaintext"
    name = f" for {tls.server_name}" if tls.server_name else ""
    kind = "mutual TLS" if tls.certificate is not None else "TLS"
    return f"{kind}{name} ({', '.join(tls.alpn) or 'no ALPN'})"


def _transport(connection: Connection) -> str:
    if connection.terminated:
        return "tls" if connection.peer is None else "mtls"
    return "plaintext" if connection.request.tls is None else "tls passthrough"


def _facts(connection: Connection) -> Facts:
    return Facts(
        destination=connection.destination,
        source=connection.source,
        remote=connection.source.ip,
        tls=connection.terminated,
        peer=connection.peer,
        server_name=connection.server_name,
        looked_up=connection.looked_up.ip if connection.looked_up is not None else "",
        metadata=connection.request.metadata,
    )


def _tcp_cluster(proxy: TcpProxy, chance: float) -> tuple[str, tuple[ClusterWeight, ...]]:
    """The cluster that is drawn, and all that could be."""
    if proxy.WhichOneof("cluster_specifier") == "cluster":
        return proxy.cluster, (ClusterWeight(name=proxy.cluster, weight=1.0),)
    entries = proxy.weighted_clusters.clusters
    total = sum(entry.weight for entry in entries)
    if not total:
        raise NotSimulatedError("a TCP proxy without clusters")
    shares = tuple(ClusterWeight(name=entry.name, weight=entry.weight / total) for entry in entries)
    point, below = int(chance * total), 0
    for entry in entries:
        below += entry.weight
        if point < below:
            return entry.name, shares
    raise AssertionError("a chance below one draws some cluster")
