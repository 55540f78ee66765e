"""What a cluster does with a request: which endpoints may get it, how often, and over which TLS.

Invariant: shares of the endpoints add up to one, or there are none. Follows Envoy's load balancing documents: subsets,
then priorities by how healthy they are, then localities if they are weighted, then endpoint weights.
"""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Metadata
from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint
from envoy.extensions.clusters.aggregate.v3.cluster_pb2 import ClusterConfig as AggregateConfig
from envoy.extensions.clusters.dynamic_forward_proxy.v3.cluster_pb2 import ClusterConfig as ForwardProxyConfig
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext
from google.protobuf.struct_pb2 import Struct

from gossamer.simulate.connection import Connection, Trace
from gossamer.simulate.decode import address_of, short_type, unpack
from gossamer.simulate.index import ClusterConfig, Decoder
from gossamer.simulate.load import Candidate, spread
from gossamer.simulate.outcome import EndpointChoice, UpstreamTls
from gossamer.simulate.request import Address, HttpRequest
from gossamer.simulate.transport import describe_san, validation_context
from gossamer.simulate.virtual_hosts import split_port

_SOCKET: Final = "envoy.transport_socket_match"


class Upstream:
    """Chooses endpoints for one request. `http` is the request as it leaves (None for a tunnel), `alpn` the protocols
    to offer in place of a cluster's own.
    """

    def __init__(self, decoder: Decoder, connection: Connection, trace: Trace) -> None:
        self._decoder = decoder
        self._connection = connection
        self._trace = trace
        self.http: HttpRequest | None = None
        self.alpn: tuple[str, ...] = ()

    def endpoints(self, cluster: ClusterConfig, subset: Struct | None) -> tuple[EndpointChoice, ...]:
        """The endpoints that may get the request, with their shares; only those with the metadata (`envoy.lb`) of
        `subset`, which the route asks for."""
        message = cluster.message
        if message.WhichOneof("cluster_discovery_type") == "cluster_type":
            return self._by_extension(cluster, subset)
        if message.type == Cluster.ORIGINAL_DST:
            return (self._original(cluster),)
        assignment = cluster.assignment
        if assignment is None:
            return ()
        candidates = [
            Candidate(group, endpoint)
            for group in assignment.endpoints
            for endpoint in group.lb_endpoints
            if _in_subset(message, endpoint, subset)
        ]
        if assignment.policy.drop_overloads:
            self._trace.note("the endpoints' drop_overloads were passed over")
        shares = spread(candidates, message, assignment.policy)
        return tuple(self._choice(cluster, candidate, share) for candidate, share in shares)

    def _by_extension(self, cluster: ClusterConfig, subset: Struct | None) -> tuple[EndpointChoice, ...]:
        packed = cluster.message.cluster_type.typed_config
        config = unpack(packed)
        if isinstance(config, ForwardProxyConfig):
            return (self._requested(cluster),)
        if isinstance(config, AggregateConfig):
            for name in config.clusters:
                member = self._decoder.cluster(name)
                found = self.endpoints(member, subset) if member is not None else ()
                if found:
                    return found
            return ()
        self._trace.note(f"clusters of type {short_type(packed)} find their endpoints in a way that is not simulated")
        return ()

    def _original(self, cluster: ClusterConfig) -> EndpointChoice:
        settings = cluster.message.original_dst_lb_config
        address = self._connection.destination
        port = settings.upstream_port_override.value if settings.HasField("upstream_port_override") else address.port
        return self._single(cluster, Address(ip=address.ip, port=port))

    def _requested(self, cluster: ClusterConfig) -> EndpointChoice:
        """The host that the request names, on the port that it names or its scheme's."""
        if self.http is None and self._connection.looked_up is not None:
            return self._single(cluster, self._connection.looked_up)
        authority = self.http.authority if self.http is not None else self._connection.server_name
        host, port = split_port(authority)
        tls = self._tls(cluster, Metadata(), Metadata())
        return self._single(cluster, Address(ip=host, port=port or (443 if tls else 80)))

    def _single(self, cluster: ClusterConfig, address: Address) -> EndpointChoice:
        return EndpointChoice(address=address, share=1.0, tls=self._tls(cluster, Metadata(), Metadata()))

    def _choice(self, cluster: ClusterConfig, candidate: Candidate, share: float) -> EndpointChoice:
        group, endpoint = candidate.group, candidate.endpoint
        place = group.locality
        return EndpointChoice(
            address=address_of(endpoint.endpoint.address),
            locality="/".join((place.region, place.zone, place.sub_zone)).rstrip("/"),
            priority=group.priority,
            weight=candidate.weight,
            health="HEALTHY" if candidate.healthy else HealthStatus.Name(endpoint.health_status),
            share=share,
            tls=self._tls(cluster, endpoint.metadata, group.metadata),
        )

    def _tls(self, cluster: ClusterConfig, *metadata: Metadata) -> UpstreamTls | None:
        context = _tls_context(cluster, metadata)
        if context is None:
            return None
        common = context.common_tls_context
        mutual = (
            common.tls_certificates
            or common.tls_certificate_sds_secret_configs
            or common.HasField("tls_certificate_provider_instance")
        )
        options = cluster.http_options
        name = context.sni
        if options is not None and options.upstream_http_protocol_options.auto_sni and self.http is not None:
            name = split_port(self.http.authority)[0]
        return UpstreamTls(
            mutual=bool(mutual),
            server_name=name,
            alpn=self.alpn or tuple(common.alpn_protocols),
            subject_alt_names=tuple(
                describe_san(matcher) for matcher in validation_context(common).match_typed_subject_alt_names
            ),
        )


def _in_subset(cluster: Cluster, endpoint: LbEndpoint, subset: Struct | None) -> bool:
    """Whether the endpoint has the metadata that the route asks for, in a cluster that knows subsets."""
    if subset is None or not cluster.lb_subset_config.subset_selectors:
        return True
    return _includes(endpoint.metadata.filter_metadata.get("envoy.lb"), subset)


def _includes(have: Struct | None, wanted: Struct) -> bool:
    fields = have.fields if have is not None else {}
    return all(key in fields and fields[key] == value for key, value in wanted.fields.items())


def _tls_context(cluster: ClusterConfig, metadata: tuple[Metadata, ...]) -> UpstreamTlsContext | None:
    """The TLS of the transport socket that the endpoint's metadata choose, or of the cluster's own."""
    own, by_match = cluster.sockets
    if not by_match:
        return own
    given = next((m.filter_metadata[_SOCKET] for m in metadata if _SOCKET in m.filter_metadata), None)
    return next((context for wanted, context in by_match if _includes(given, wanted)), own)


def speaks_http2(cluster: ClusterConfig, *, downstream: bool) -> bool:
    """Whether the cluster speaks HTTP/2 to its endpoints, for a request that came over HTTP/2 or not."""
    options = cluster.http_options
    if options is None:
        return cluster.message.HasField("http2_protocol_options")
    match options.WhichOneof("upstream_protocol_options"):
        case "explicit_http_config":
            return options.explicit_http_config.WhichOneof("protocol_config") == "http2_protocol_options"
        case "use_downstream_protocol_config":
            return downstream
    return True
