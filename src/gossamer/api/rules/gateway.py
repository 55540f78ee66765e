"""Gateway: its servers, their ports, hosts and TLS.

Rules: Istio's documentation of Gateway.
"""

from __future__ import annotations

from typing import Any, Final

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.gateway import (
    HTTP3,
    Gateway,
    Server,
    ServerTLSMode,
    ServerTLSSettings,
    TLSProtocol,
    serves_http3,
)
from gossamer.api.resource import Resource
from gossamer.api.rules.common import (
    check,
    check_labels,
    check_port,
    check_protocol,
    check_unique,
    is_written,
    require,
    written,
)
from gossamer.api.rules.tls import check_ciphers, check_curves, is_old_cipher

TLS_PROTOCOLS: Final = ("HTTPS", "TLS")
_VERSIONS: Final = tuple(TLSProtocol)


def check_gateway(resource: Resource[Gateway], raw: Any, at: At) -> None:
    spec = resource.spec
    _check_http3(resource, at)
    check_labels(spec.selector, at["selector"])
    require(spec.servers, at["servers"], "gateway must have at least one server")
    raw_servers = written(raw, "servers")
    for index, server in enumerate(spec.servers):
        _check_server(server, raw_servers[index], at["servers", index])
    check_unique(((s.port.name, at["servers", i, "port", "name"]) for i, s in enumerate(spec.servers)), "port name")
    named = ((s.name, at["servers", i, "name"]) for i, s in enumerate(spec.servers) if s.name)
    check_unique(named, "server name")


def _check_http3(resource: Resource[Gateway], at: At) -> None:
    wanted = resource.annotations.get(HTTP3)
    here = At(("metadata", "annotations", HTTP3), at.findings)
    if wanted not in (None, "true", "false"):
        here.error("invalid-value", f'"{wanted}" is not "true" or "false"')
    elif wanted == "true" and not any(serves_http3(server) for server in resource.spec.servers):
        message = "no server of this Gateway can be reached by HTTP/3: that needs protocol HTTPS and tls mode SIMPLE"
        here.warning("no-effect", message)


def _check_server(server: Server, raw: Any, at: At) -> None:
    require(server.port.name, at["port", "name"], "port name must be set")
    check_protocol(server.port.protocol, at["port", "protocol"])
    if server.bind.startswith("unix://"):
        if server.port.number:
            at["port", "number"].error("invalid-port", "port number must be 0 for a server bound to a UNIX socket")
        if check(unix_socket_problem(server.bind), at["bind"]) and not server.bind.startswith("unix://@"):
            message = "a gateway that an agent runs binds no path of its host; such a server is not opened there"
            at["bind"].warning("no-effect", message, "name an abstract socket: unix://@name")
    else:
        check_port(server.port.number, at["port", "number"])
        if server.bind and not names.is_ip(server.bind):
            at["bind"].error("invalid-value", f'"{server.bind}" is not an IP address')
    if server.port.target_port:
        message = "targetPort has no effect on a Gateway: the service before the gateway says it"
        at["port", "targetPort"].warning("no-effect", message, on_key=True)
    if server.default_endpoint:
        message = "defaultEndpoint has no effect: nobody implements it, Istio included; write a route for it"
        at["defaultEndpoint"].warning("no-effect", message, on_key=True)
    require(server.hosts, at["hosts"], "server config must contain at least one host")
    for index, host in enumerate(server.hosts):
        _check_host(host, at["hosts", index])
    _check_tls_presence(server, at)
    if server.tls:
        _check_tls(server.tls, written(raw, "tls"), at["tls"])


def unix_socket_problem(address: str) -> str:
    """For `unix:///path` and `unix://@abstract`."""
    path = address.removeprefix("unix://")
    if not path.startswith(("/", "@")):
        return "UDS must be an absolute path or abstract socket"
    return "UDS may not be a dir" if path.endswith("/") else ""


def _check_host(host: str, at: At) -> None:
    """`[namespace/]name`; a wildcard stands for whole labels."""
    namespace, slash, name = host.rpartition("/")
    if slash and namespace not in ("*", "."):
        check(names.namespace_problem(namespace), at, "invalid-host")
    if not name:
        at.error("invalid-host", "host must not be empty")
    elif check(names.wildcard_domain_problem(name), at, "invalid-host") and name.startswith("*") and name != "*":
        message = f'partial wildcard "{name}" is not allowed; use * or *.example.com'
        check("" if name.startswith("*.") else message, at, "invalid-host")


def _check_tls_presence(server: Server, at: At) -> None:
    protocol = server.port.protocol.upper()
    tls = server.tls
    if protocol in TLS_PROTOCOLS:
        if tls is None:
            at["tls"].error("required", f"server must have TLS settings for {protocol}")
        elif tls.https_redirect:
            at["tls", "httpsRedirect"].error("invalid-value", "httpsRedirect is for HTTP servers")
    elif tls is not None and tls != ServerTLSSettings(https_redirect=tls.https_redirect):
        at["tls"].error("invalid-value", f"server cannot have TLS settings for plain text {protocol} ports")


def _check_tls(tls: ServerTLSSettings, raw: Any, at: At) -> None:
    sources = {
        "serverCertificate": bool(tls.server_certificate),
        "credentialName": bool(tls.credential_name),
        "credentialNames": is_written(raw, "credentialNames"),
        "tlsCertificates": is_written(raw, "tlsCertificates"),
    }
    given = [name for name, present in sources.items() if present]
    if len(given) > 1:
        at[given[1]].error("exclusive-fields", f"only one of {' or '.join(given)} can be set", on_key=True)
    for name in ("credentialNames", "tlsCertificates"):
        if sources[name] and not 1 <= len(written(raw, name)) <= 2:
            at[name].error("out-of-range", f"{name} takes one or two entries")
    if tls.mode is ServerTLSMode.ISTIO_MUTUAL:
        for name in (
            *given,
            *(["privateKey"] if tls.private_key else ()),
            *(["caCertificates"] if tls.ca_certificates else ()),
        ):
            at[name].error("exclusive-fields", f"ISTIO_MUTUAL uses the mesh's own certificates: {name} cannot be set")
    elif tls.mode in (ServerTLSMode.SIMPLE, ServerTLSMode.MUTUAL, ServerTLSMode.OPTIONAL_MUTUAL):
        _check_certificates(tls, given, at)
    elif given:
        at[given[0]].warning("no-effect", f"{given[0]} has no effect with mode {tls.mode}")
    _check_clients(tls, at)
    check_tls_versions(tls, at)


def _check_clients(tls: ServerTLSSettings, at: At) -> None:
    """What is said of clients' certificates, where none is asked for or any is taken."""
    asks = tls.mode in (ServerTLSMode.MUTUAL, ServerTLSMode.OPTIONAL_MUTUAL)
    said = {
        "subjectAltNames": tls.subject_alt_names,
        "verifyCertificateSpki": tls.verify_certificate_spki,
        "verifyCertificateHash": tls.verify_certificate_hash,
        "caCertCredentialName": tls.ca_cert_credential_name,
        "caCrl": tls.ca_crl,
        "insecureSkipVerify": tls.insecure_skip_verify,
    }
    for name, value in said.items():
        if value and not asks:
            at[name].warning("no-effect", f"{name} has no effect with mode {tls.mode}, which asks for no certificate")
    if asks and tls.ca_crl and (tls.credential_name or tls.credential_names or tls.ca_cert_credential_name):
        message = "caCrl goes with caCertificates: a Secret holds its own list, under the key ca.crl"
        at["caCrl"].warning("no-effect", message)
    picks = [name for name in ("subjectAltNames", "verifyCertificateSpki", "verifyCertificateHash") if said[name]]
    if tls.mode is ServerTLSMode.OPTIONAL_MUTUAL and picks and not tls.insecure_skip_verify:
        message = f"with {picks[0]} Envoy refuses clients without a certificate: OPTIONAL_MUTUAL is as MUTUAL here"
        hint = "leave it out, and have an AuthorizationPolicy say who may do what"
        at[picks[0]].warning("certificate-demanded", message, hint)
    if asks and tls.insecure_skip_verify:
        message = "any certificate is taken as it is, so policies that go by who the client is believe whatever it says"
        at["insecureSkipVerify"].warning("insecure", message)


def _check_certificates(tls: ServerTLSSettings, given: list[str], at: At) -> None:
    if not given or given == ["serverCertificate"]:
        require(
            tls.server_certificate,
            at["serverCertificate"],
            f"{tls.mode} TLS requires a credentialName or a server certificate",
        )
        require(tls.private_key, at["privateKey"], f"{tls.mode} TLS requires a private key")
        if tls.mode is not ServerTLSMode.SIMPLE:
            bundle = tls.ca_certificates or any(pair.ca_certificates for pair in tls.tls_certificates)
            require(bundle, at["caCertificates"], f"{tls.mode} TLS requires a client CA bundle")
    for index, pair in enumerate(tls.tls_certificates):
        here = at["tlsCertificates", index]
        require(pair.server_certificate, here["serverCertificate"], "a server certificate must be set")
        require(pair.private_key, here["privateKey"], "a private key must be set")


def check_tls_versions(tls: ServerTLSSettings, at: At) -> None:
    low, high = tls.min_protocol_version, tls.max_protocol_version
    if TLSProtocol.TLS_AUTO not in (low, high) and _VERSIONS.index(low) > _VERSIONS.index(high):
        at["minProtocolVersion"].error("out-of-range", f"minProtocolVersion {low} is above maxProtocolVersion {high}")
    if low in (TLSProtocol.TLSV1_0, TLSProtocol.TLSV1_1) and not any(map(is_old_cipher, tls.cipher_suites)):
        message = f"no cipher suite that is offered goes with {low}, so clients without TLS 1.2 do not get in"
        at["minProtocolVersion"].warning("no-effect", message, "name one in cipherSuites, such as ECDHE-RSA-AES128-SHA")
    check_ciphers(tls.cipher_suites, at["cipherSuites"])
    check_curves(tls.ecdh_curves, at["ecdhCurves"])
