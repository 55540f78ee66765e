"""Sidecar: its listeners, what they import, and where unknown traffic goes.

Rules: Istio's documentation of Sidecar, and what its CRD enforces.
"""

from __future__ import annotations

import re
from typing import Any, Final

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.gateway import ServerTLSMode, ServerTLSSettings
from gossamer.api.resource import Resource
from gossamer.api.rules.common import check, check_port, check_port_selector, check_protocol, check_unique, require
from gossamer.api.rules.destination_rule import check_connection_pool
from gossamer.api.rules.gateway import TLS_PROTOCOLS, check_tls_versions, unix_socket_problem
from gossamer.api.rules.targets import check_label_selector
from gossamer.api.sidecar import (
    CaptureMode,
    IstioEgressListener,
    IstioIngressListener,
    OutboundMode,
    OutboundTrafficPolicy,
    Sidecar,
    SidecarPort,
)

UNIX: Final = "unix://"
_ENDPOINT: Final = re.compile(r"(?:(?P<host>[^\[\]:]*)|\[(?P<v6>[^\[\]]*)\]):(?P<port>[0-9]{1,5})")
_ENDPOINT_HOSTS: Final = ("", "127.0.0.1", "0.0.0.0", "::1", "::")  # noqa: S104  (what an author may write)


def check_sidecar(resource: Resource[Sidecar], _raw: Any, at: At) -> None:
    spec = resource.spec
    parts = (spec.outbound_traffic_policy, spec.inbound_connection_pool)
    if not (spec.ingress or spec.egress) and all(part is None for part in parts):
        at.error("required", "sidecar: empty configuration provided", "say at least what it may call, with egress")
    check_label_selector(spec.workload_selector, at["workloadSelector"])
    for index, listener in enumerate(spec.ingress):
        _check_ingress(listener, at["ingress", index])
    ports = ((listener.port.number, at["ingress", i, "port", "number"]) for i, listener in enumerate(spec.ingress))
    check_unique(ports, "port")
    _check_egress_listeners(spec.egress, at["egress"])
    if spec.inbound_connection_pool:
        check_connection_pool(spec.inbound_connection_pool, at["inboundConnectionPool"])
    if spec.outbound_traffic_policy:
        _check_outbound(spec.outbound_traffic_policy, at["outboundTrafficPolicy"])


def _check_bind(bind: str, port: SidecarPort, at: At) -> None:
    if port.target_port:
        at["port", "targetPort"].warning("deprecated-field", "targetPort is ignored, by Istio too; use defaultEndpoint")
    check_port(port.number, at["port", "number"])
    if port.protocol:
        check_protocol(port.protocol, at["port", "protocol"])
    if bind and not names.is_ip(bind):
        at["bind"].error("invalid-value", f'"{bind}" is not an IP address')


def _check_ingress(listener: IstioIngressListener, at: At) -> None:
    _check_bind(listener.bind, listener.port, at)
    check(_endpoint_problem(listener.default_endpoint), at["defaultEndpoint"], "invalid-address")
    if listener.tls:
        _check_tls(listener.tls, listener.port.protocol, at["tls"])
    if listener.connection_pool:
        check_connection_pool(listener.connection_pool, at["connectionPool"])


def _endpoint_problem(endpoint: str) -> str:
    """Where a workload's program listens: its own addresses alone."""
    if not endpoint:
        return ""
    if endpoint.startswith(UNIX):
        return unix_socket_problem(endpoint)
    found = _ENDPOINT.fullmatch(endpoint)
    if found and (found["v6"] or found["host"] or "") in _ENDPOINT_HOSTS and 0 < int(found["port"]) <= 65535:
        return ""
    forms = "127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT, unix:///PATH"
    return f'"{endpoint}": defaultEndpoint must be of form {forms} or unset'


def _check_tls(tls: ServerTLSSettings, protocol: str, at: At) -> None:
    """TLS from outside the mesh, with the workload's own files."""
    if protocol.upper() not in TLS_PROTOCOLS:
        at.error("invalid-value", f"a port of protocol {protocol or 'unknown'} has no TLS settings", "use HTTPS or TLS")
    for name, value in (
        ("subjectAltNames", tls.subject_alt_names),
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", tls.credential_name),
        ("credentialNames", tls.credential_names),
        ("caCertCredentialName", tls.ca_cert_credential_name),
        ("tlsCertificates", tls.tls_certificates),
    ):
        if value:
            at[name].error("invalid-value", f"sidecar: {name} is not supported in ingress tls", on_key=True)
    if tls.mode not in (ServerTLSMode.SIMPLE, ServerTLSMode.MUTUAL):
        at["mode"].error("invalid-value", f"sidecar: ingress tls mode must be SIMPLE or MUTUAL, not {tls.mode}")
    else:
        require(tls.server_certificate, at["serverCertificate"], f"{tls.mode} TLS requires a server certificate")
        require(tls.private_key, at["privateKey"], f"{tls.mode} TLS requires a private key")
        if tls.mode is ServerTLSMode.MUTUAL:
            require(tls.ca_certificates, at["caCertificates"], "MUTUAL TLS requires a client CA bundle")
    check_tls_versions(tls, at)


def _check_egress_listeners(listeners: tuple[IstioEgressListener, ...], at: At) -> None:
    for index, listener in enumerate(listeners):
        here = at[index]
        if listener.port is None:
            if index < len(listeners) - 1:
                message = "sidecar: the egress listener with empty port should be the last listener in the list"
                here.error("invalid-order", message)
            if listener.bind:
                here["bind"].error("invalid-value", "bind needs a port", "say which with port")
        elif listener.bind.startswith(UNIX):
            _check_socket(listener, listener.port, here)
        else:
            _check_bind(listener.bind, listener.port, here)
        _check_hosts(listener.hosts, here["hosts"])
    placed = [(listener, at[index]) for index, listener in enumerate(listeners)]
    check_unique(((one.bind, here["bind"]) for one, here in placed if one.bind.startswith(UNIX)), "socket")
    bound = ((one.port.number, here["port", "number"]) for one, here in placed if one.port and one.port.number)
    check_unique(bound, "port")


def _check_socket(listener: IstioEgressListener, port: SidecarPort, at: At) -> None:
    check(unix_socket_problem(listener.bind), at["bind"], "invalid-address")
    if port.number:
        at["port", "number"].error("invalid-port", "a listener on a UNIX socket has port number 0")
    if port.protocol:
        check_protocol(port.protocol, at["port", "protocol"])
    if listener.capture_mode not in (CaptureMode.DEFAULT, CaptureMode.NONE):
        message = "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners"
        at["captureMode"].error("invalid-value", message)


def _check_hosts(hosts: tuple[str, ...], at: At) -> None:
    """`NAMESPACE/NAME`; `~NAMESPACE/NAME` leaves out what others import."""
    require(hosts, at, "sidecar: egress listener must contain at least one host")
    for index, host in enumerate(hosts):
        check(egress_host_problem(host), at[index], "invalid-host")
    check_unique(((host, at[index]) for index, host in enumerate(hosts)), "host")


def egress_host_problem(host: str) -> str:
    """For one of `egress[].hosts`."""
    namespace, slash, name = host.partition("/")
    if not slash or not name or not namespace:
        return f'"{host}" is not of form NAMESPACE/NAME, such as ./* or prod/api.example.com'
    excluded = namespace.removeprefix("~") if len(namespace) > 1 else namespace
    if excluded not in ("*", ".", "~") and (problem := names.namespace_problem(excluded)):
        return problem
    if (namespace, name) == ("~", "~"):
        return ""
    return names.wildcard_domain_problem(name)


def _check_outbound(policy: OutboundTrafficPolicy, at: At) -> None:
    proxy = policy.egress_proxy
    if proxy is None:
        return
    here = at["egressProxy"]
    if policy.mode is not OutboundMode.ALLOW_ANY:
        here.error("invalid-value", f"sidecar: egressProxy goes with mode ALLOW_ANY, not with {policy.mode}")
    check(names.domain_problem(proxy.host), here["host"], "invalid-host")
    if require(proxy.port, here["port"], "sidecar: egressProxy needs a port"):
        check_port_selector(proxy.port, here["port"])
    if proxy.subset:
        check(names.namespace_problem(proxy.subset), here["subset"], "invalid-subset")
