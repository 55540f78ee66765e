"""MeshConfig, as far as it is supported.

Rules: Istio's documentation of MeshConfig.
"""

from __future__ import annotations

from datetime import timedelta

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.mesh_config import MeshConfig
from gossamer.api.rules.common import check, check_duration, check_export_to, require


def check_mesh_config(mesh: MeshConfig, at: At) -> None:
    if require(mesh.trust_domain, at["trustDomain"], "trustDomain must not be empty"):
        check(names.domain_problem(mesh.trust_domain), at["trustDomain"])
    for index, alias in enumerate(mesh.trust_domain_aliases):
        check(names.domain_problem(alias), at["trustDomainAliases", index])
    if require(mesh.root_namespace, at["rootNamespace"], "rootNamespace must not be empty"):
        check(names.namespace_problem(mesh.root_namespace), at["rootNamespace"])
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
