"""What a sidecar serves: its workload's ports, as they are captured (15006) or bound for other sidecars (mesh ports).

Invariant: no byte reaches the application but through a chain that asks its PeerAuthentication's kind of TLS and holds
the policy slots, unknown ports included. A mesh port takes what its workload's port takes: PeerAuthentication means the
same in every capture mode, so STRICT is what refuses plaintext there too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLogFilter, ResponseFlagFilter
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address
from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import (
    FilterChain,
    FilterChainMatch,
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
)
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2 import HttpInspector
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.type.v3.range_pb2 import Int32Range
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.compile.access_log import access_logs
from gossamer.compile.decided import decided_table
from gossamer.compile.draft import Draft, pack, references
from gossamer.compile.inbound_chains import ChainCompiler, ServedPort
from gossamer.compile.inbound_clusters import PASSTHROUGH, inbound_cluster, passthrough_cluster, port_cluster
from gossamer.compile.limits import seconds
from gossamer.compile.listeners import wildcards_of
from gossamer.compile.names import BLACK_HOLE
from gossamer.compile.policies.ports import local_ports
from gossamer.compile.policies.revision import compile_revisions
from gossamer.compile.policies.slots import HTTP_SLOTS, TCP_SLOTS, compile_slots, slot_references
from gossamer.compile.seen import tcp_logs
from gossamer.compile.seen_names import REFUSED
from gossamer.compile.serving import buffer_listener
from gossamer.compile.stat_names import inbound_stat_name
from gossamer.compile.streams import pass_to, socket
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, LISTENER, ROUTE
from gossamer.model.proxy import CaptureMode, ProxyType
from gossamer.model.service import Protocol
from gossamer.model.settings import MeshSettings, observed
from gossamer.model.view import InboundPort, ProxyView

_ANY: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
_TLS_INSPECTOR: Final = "envoy.filters.listener.tls_inspector"
_HTTP_INSPECTOR: Final = "envoy.filters.listener.http_inspector"


def compile_inbound(view: ProxyView, memo: Memo) -> tuple[Draft, ...]:
    """The listeners, clusters and policy slots (ECDS) of a sidecar's inbound side; routes stand inline.

    A gateway has the slots alone: its listeners are its servers'. Every draft states its references. `memo` shares the
    slots among proxies with equal policies.
    """
    slots = memo(compile_slots, view.policies, local_ports(view.proxy), tells=view.settings.tells_denials)
    if view.proxy.type is ProxyType.ROUTER:
        return slots
    if view.proxy.capture.observed:
        view = replace(view, settings=memo(observed, view.settings))
    compiler = ChainCompiler(view.settings, memo(compile_revisions, view.policies), view.policies.peer.origins)
    tables = (decided_table(port, port_cluster(port.number)) for port in view.inbound)
    return (*slots, *_clusters(view), *_listeners(view, compiler), *(table for table in tables if table is not None))


def _listeners(view: ProxyView, compiler: ChainCompiler) -> list[Draft]:
    capture = view.proxy.capture
    known = {port.number: port for port in view.inbound}
    found = []
    if capture.mode is CaptureMode.TRANSPARENT:
        found.append(_captured(view, compiler))
    for number in sorted(capture.mesh_ports):
        port = _served(view, known.get(number, InboundPort(number=number, protocol=Protocol.AUTO)), matched=False)
        address = socket(capture.mesh_address or "0.0.0.0", capture.mesh_ports[number])  # noqa: S104 - as the agent chose
        found.append(_draft(view, _listener(f"meshInbound|{number}", address, [port], compiler, view.settings)))
    found += [_opened(view, port, compiler) for port in view.inbound if port.opened]
    return found


def _opened(view: ProxyView, port: InboundPort, compiler: ChainCompiler) -> Draft:
    """A port that a Sidecar has bound where its callers dial it, on the workload's own network."""
    proxy = view.proxy
    bind = port.bind or next(iter(proxy.addresses), wildcards_of(proxy)[0])
    address = socket(bind, port.number, proxy.capture.network_namespace)
    served = _served(view, port, matched=False)
    return _draft(view, _listener(f"{bind}_{port.number}", address, [served], compiler, view.settings))


def _captured(view: ProxyView, compiler: ChainCompiler) -> Draft:
    """Of all connections to the workload that the kernel redirects (to 15006), whatever port they were for."""
    served = [_served(view, port) for port in view.inbound if not port.opened]
    known = {port.number for port in served}
    rest = [*(number for number in sorted(view.policies.peer.ports) if number not in known), 0]
    served += [
        _served(view, InboundPort(number=number, protocol=Protocol.AUTO), cluster=PASSTHROUGH) for number in rest
    ]
    capture = view.proxy.capture
    first, *others = (
        socket(address, capture.inbound_port, capture.network_namespace) for address in wildcards_of(view.proxy)
    )
    listener = _listener("virtualInbound", first, served, compiler, view.settings)
    listener.additional_addresses.extend(AdditionalAddress(address=address) for address in others)
    listener.filter_chains.insert(0, _loop_chain(capture.inbound_port, view.settings))
    listener.listener_filters.insert(0, _listener_filter("envoy.filters.listener.original_dst", OriginalDst()))
    return _draft(view, listener)


def _served(view: ProxyView, port: InboundPort, *, cluster: str = "", matched: bool = True) -> ServedPort:
    tcp = port.pool.tcp if port.pool else None
    return ServedPort(
        number=port.number,
        protocol=port.protocol,
        accepts=view.policies.peer.on(port.number),
        cluster=cluster or port_cluster(port.number),
        matched=matched,
        bind=port.bind if port.bind not in _ANY else "",
        tls=port.tls,
        idle_timeout=tcp.idle_timeout if tcp else None,
        stat_name=inbound_stat_name(port, view.settings),
        origin=port.origin,
        decided=port.decided is not None and not cluster,
    )


def _loop_chain(port: int, settings: MeshSettings) -> FilterChain:
    """A connection to this port itself would be sent to where it was dialled: here, for ever."""
    match = FilterChainMatch(destination_port=UInt32Value(value=port))
    return FilterChain(
        name="virtualInbound-blackhole", filter_chain_match=match, filters=[pass_to(BLACK_HOLE, settings)]
    )


def _listener(
    name: str, address: Address, served: list[ServedPort], compiler: ChainCompiler, settings: MeshSettings
) -> Listener:
    refused = [*access_logs(settings), *tcp_logs(settings, REFUSED)]
    for log in refused:  # what no chain takes has no connection manager to log it
        log.filter.CopyFrom(AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["NR"])))
    listener = Listener(
        name=name,
        address=address,
        traffic_direction=TrafficDirection.INBOUND,
        listener_filters=_inspectors(served),
        listener_filters_timeout=seconds(settings.protocol_detection_timeout),
        continue_on_listener_filters_timeout=True,
        filter_chains=[chain for port in served for chain in compiler.compile(port)],
        access_log=refused,
    )
    buffer_listener(listener, settings.connections)
    return listener


def _inspectors(served: list[ServedPort]) -> list[ListenerFilter]:
    """The filters that look at a connection's first bytes, switched off on ports that have no need: there a server may
    speak first."""
    found = []
    for name, config, needing in (
        (_TLS_INSPECTOR, TlsInspector(), [port for port in served if port.sniffs_tls]),
        (_HTTP_INSPECTOR, HttpInspector(), [port for port in served if port.sniffs_http]),
    ):
        if needing:
            found.append(_listener_filter(name, config, _unless(served, needing)))
    return found


def _unless(served: list[ServedPort], needing: list[ServedPort]) -> ListenerFilterChainMatchPredicate | None:
    """Matches the ports that are not among `needing`. None when all are."""
    if len(needing) == len(served):
        return None
    numbers = {port.number for port in needing}
    if 0 not in numbers:
        return ListenerFilterChainMatchPredicate(not_match=_on(numbers))
    return _on({port.number for port in served} - numbers)


def _on(numbers: Iterable[int]) -> ListenerFilterChainMatchPredicate:
    parts = [
        ListenerFilterChainMatchPredicate(destination_port_range=Int32Range(start=number, end=number + 1))
        for number in sorted(numbers)
    ]
    if len(parts) == 1:
        return parts[0]
    rules = ListenerFilterChainMatchPredicate.MatchSet(rules=parts)
    return ListenerFilterChainMatchPredicate(or_match=rules)


def _listener_filter(
    name: str, config: Message, disabled: ListenerFilterChainMatchPredicate | None = None
) -> ListenerFilter:
    return ListenerFilter(name=name, typed_config=pack(config), filter_disabled=disabled)


def _draft(view: ProxyView, listener: Listener) -> Draft:
    tables = {port_cluster(port.number) for port in view.inbound if port.decided is not None}
    names = {*_cluster_names(view), *([BLACK_HOLE] if view.proxy.capture.mode is CaptureMode.TRANSPARENT else [])}
    return Draft(
        type_url=LISTENER,
        name=listener.name,
        message=listener,
        references=references(CLUSTER, names) | references(ROUTE, tables) | slot_references(*HTTP_SLOTS, *TCP_SLOTS),
        origins=_origins(view),
    )


def _clusters(view: ProxyView) -> list[Draft]:
    capture, settings = view.proxy.capture, view.settings
    ports = {number: InboundPort(number=number, protocol=Protocol.AUTO) for number in capture.mesh_ports}
    ports |= {port.number: port for port in view.inbound}
    clusters = [inbound_cluster(ports[number], view.proxy, settings) for number in sorted(ports)]
    if capture.mode is CaptureMode.TRANSPARENT:
        clusters.append(passthrough_cluster(capture, settings))
    return [_cluster_draft(cluster, _origins(view)) for cluster in clusters]


def _cluster_draft(cluster: Cluster, origins: tuple[Origin, ...]) -> Draft:
    return Draft(type_url=CLUSTER, name=cluster.name, message=cluster, references=frozenset(), origins=origins)


def _cluster_names(view: ProxyView) -> set[str]:
    names = {port_cluster(number) for number in (*view.proxy.capture.mesh_ports, *(p.number for p in view.inbound))}
    return names | ({PASSTHROUGH} if view.proxy.capture.mode is CaptureMode.TRANSPARENT else set())


def _origins(view: ProxyView) -> tuple[Origin, ...]:
    """Whose ports these are, and who says what they accept."""
    services = [service.origin for port in view.inbound for service, _ in port.services if service.origin]
    listeners = [port.origin for port in view.inbound if port.origin]
    return tuple(dict.fromkeys([*view.policies.peer.origins, *listeners, *services]))
