"""MeshConfig, as far as it is supported.

Rules: Istio's documentation of MeshConfig.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.mesh_config import CertificateData, LabelSelector, MeshConfig
from gossamer.api.rules.common import check, check_duration, check_export_to, require
from gossamer.api.rules.extension_provider import check_extension_providers
from gossamer.api.rules.locality import check_locality, check_zones
from gossamer.api.rules.mesh_proxies import check_default_config
from gossamer.api.rules.pem import certificates_problem
from gossamer.api.rules.tls import check_mesh_tls


def check_mesh_config(mesh: MeshConfig, at: At) -> None:
    if require(mesh.trust_domain, at["trustDomain"], "trustDomain must not be empty"):
        check(names.domain_problem(mesh.trust_domain), at["trustDomain"])
    for index, alias in enumerate(mesh.trust_domain_aliases):
        check(names.domain_problem(alias), at["trustDomainAliases", index])
    if require(mesh.root_namespace, at["rootNamespace"], "rootNamespace must not be empty"):
        check(names.namespace_problem(mesh.root_namespace), at["rootNamespace"])
    _check_ports(mesh, at)
    check_duration(mesh.connect_timeout, at["connectTimeout"])
    if mesh.protocol_detection_timeout is not None and mesh.protocol_detection_timeout < timedelta(0):
        at["protocolDetectionTimeout"].error("invalid-duration", "must not be negative")
    exports = (
        ("defaultServiceExportTo", mesh.default_service_export_to),
        ("defaultVirtualServiceExportTo", mesh.default_virtual_service_export_to),
        ("defaultDestinationRuleExportTo", mesh.default_destination_rule_export_to),
    )
    for name, export_to in exports:
        check_export_to(export_to, at[name])
    if mesh.access_log_file and not mesh.access_log_file.startswith("/"):
        at["accessLogFile"].error("invalid-value", "accessLogFile must be an absolute path, such as /dev/stdout")
    _check_selectors(mesh, at)
    check_duration(mesh.dns_refresh_rate, at["dnsRefreshRate"])
    if mesh.locality_lb_setting is not None:
        check_locality(mesh.locality_lb_setting, at["localityLbSetting"])
    if mesh.zone_aware_lb_setting is not None:
        check_zones(mesh.zone_aware_lb_setting, at["zoneAwareLbSetting"])
    _check_tls(mesh, at)
    _check_services(mesh, at)
    _check_anchors(mesh, at)
    _check_stat_names(mesh, at)
    if mesh.default_config is not None:
        check_default_config(mesh.default_config, at["defaultConfig"])
    check_extension_providers(mesh.extension_providers, at["extensionProviders"])


def _check_ports(mesh: MeshConfig, at: At) -> None:
    ports = {"proxyListenPort": mesh.proxy_listen_port, "proxyInboundListenPort": mesh.proxy_inbound_listen_port}
    for name, port in ports.items():
        if not _UNPRIVILEGED <= port < 65536 or port in _TAKEN:
            taken = ", ".join(f"{number} {what}" for number, what in _TAKEN.items())
            at[name].error("invalid-port", f"port must be between {_UNPRIVILEGED} and 65535, and not {taken}")
    if mesh.proxy_listen_port == mesh.proxy_inbound_listen_port:
        at["proxyInboundListenPort"].error("conflict", "is proxyListenPort too: each needs its own")


_UNPRIVILEGED: Final = 1024
_TAKEN: Final = {15021: "(readiness)", 15053: "(DNS)"}


def _check_services(mesh: MeshConfig, at: At) -> None:
    for index, settings in enumerate(mesh.service_settings):
        here = at["serviceSettings", index, "hosts"]
        if not settings.hosts:
            here.warning("no-effect", "settings of services are for the hosts that they name, and these name none")
        for number, host in enumerate(settings.hosts):
            if problem := names.wildcard_domain_problem(host):
                here[number].warning("no-effect", f"no service has such a host: {problem}")


def _check_tls(mesh: MeshConfig, at: At) -> None:
    for name, tls in (("meshMTLS", mesh.mesh_mtls), ("tlsDefaults", mesh.tls_defaults)):
        if tls is not None:
            check_mesh_tls(tls, at[name])
    if mesh.verify_certificate_at_client is False:
        message = "servers outside the mesh are believed without proof where a DestinationRule names no caCertificates"
        at["verifyCertificateAtClient"].warning("insecure", message)


def _check_anchors(mesh: MeshConfig, at: At) -> None:
    known = (mesh.trust_domain, *mesh.trust_domain_aliases)
    for index, anchor in enumerate(mesh.ca_certificates):
        here = at["caCertificates", index]
        if anchor.pem is not None:
            check(certificates_problem(anchor.pem), here["pem"])
        for number, domain in enumerate(anchor.trust_domains):
            check(names.trust_domain_problem(domain), here["trustDomains", number])
        if anchor.spiffe_bundle_url is not None:
            _check_bundle(anchor, known, here)
    for index, pem in enumerate(mesh.default_config.ca_certificates_pem if mesh.default_config else ()):
        check(certificates_problem(pem), at["defaultConfig", "caCertificatesPem", index])


def _check_bundle(anchor: CertificateData, known: tuple[str, ...], here: At) -> None:
    """A bundle that is fetched vouches for foreign trust domains alone."""
    at = here["spiffeBundleUrl"]
    if anchor.pem is not None:
        at.error("invalid-value", "an anchor is given as pem or fetched from spiffeBundleUrl, not both")
    if not str(anchor.spiffe_bundle_url).startswith("https://"):
        at.error("invalid-value", "a bundle is fetched over https alone")
    own = [domain for domain in anchor.trust_domains if domain in known]
    if own or not anchor.trust_domains:
        what = f"it names {', '.join(own)}" if own else "it names none in trustDomains"
        message = "what a server answers at the moment may not decide who belongs to the mesh itself"
        at.error("invalid-value", f"{message}: {what}", "name the foreign trust domain that publishes it, or give pem")


def _check_stat_names(mesh: MeshConfig, at: At) -> None:
    for name, pattern in (
        ("inboundClusterStatName", mesh.inbound_cluster_stat_name),
        ("outboundClusterStatName", mesh.outbound_cluster_stat_name),
    ):
        for unknown in sorted(set(_VARIABLE.findall(pattern)) - _VARIABLES):
            known = f"known are {', '.join(sorted(_VARIABLES))}"
            at[name].warning("invalid-value", f"{unknown} stands for nothing", known)


_VARIABLE: Final = re.compile(r"%[^%]*%")
_VARIABLES: Final = frozenset((
    "%SERVICE%", "%SERVICE_NAME%", "%SERVICE_FQDN%", "%SERVICE_PORT%", "%SERVICE_PORT_NAME%", "%TARGET_PORT%",
    "%SUBSET_NAME%",
))  # fmt: skip


def _check_selectors(mesh: MeshConfig, at: At) -> None:
    for index, selector in enumerate(mesh.discovery_selectors):
        _check_selector(selector, at["discoverySelectors", index])
    for index, policy in enumerate(mesh.service_entry_visibility.policies if mesh.service_entry_visibility else ()):
        for number, rule in enumerate(policy.matching_rules):
            here = at["serviceEntryVisibility", "policies", index, "matchingRules", number, "namespaceSelector"]
            _check_selector(rule.namespace_selector or LabelSelector(), here)


def _check_selector(selector: LabelSelector, at: At) -> None:
    for index, expression in enumerate(selector.match_expressions):
        here = at["matchExpressions", index]
        require(expression.key, here["key"], "an expression needs the key of a label")
        if expression.operator not in _OPERATORS:
            here["operator"].error("invalid-value", f"{expression.operator!r} is none of {', '.join(_OPERATORS)}")
        elif bool(expression.values) != (expression.operator in ("In", "NotIn")):
            here["values"].error("invalid-value", "In and NotIn need values, the others take none")


_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")
