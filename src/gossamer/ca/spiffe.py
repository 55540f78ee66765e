"""Names of identities: SPIFFE IDs of workloads and hosts, and the DNS name beside them.

A value of these types is valid by construction: whoever holds one may put it into a certificate.
Rules: the SPIFFE ID specification (scheme and trust domain in lower case, no port, query, fragment or empty segment),
Kubernetes' names (RFC 1123 labels), and Istio's path `/ns/<namespace>/sa/<service account>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gossamer.core.errors import IdentityError

CONTROL_PLANE: Final = "control-plane.gossamer-system.svc"
"""The name in the control plane's certificate that agents verify, whatever address they dial."""

_SCHEME: Final = "spiffe://"
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MARK: Final = ".workload."
_HOST_PATH: Final = "/gossamer/host/"
_LONGEST_NAME: Final = 253
_LONGEST_HOST: Final = 64
_LONGEST_TRUST_DOMAIN: Final = 255
_LONGEST_ID: Final = 2048


def check_trust_domain(value: str) -> str:
    """`value` itself, if it is a trust domain by the SPIFFE specification; else IdentityError."""
    if len(value) > _LONGEST_TRUST_DOMAIN or not _TRUST_DOMAIN.fullmatch(value):
        raise IdentityError(
            f"{value!r} is not a trust domain: lower-case letters, digits, '-', '_' and single dots between them, "
            f"at most {_LONGEST_TRUST_DOMAIN} characters"
        )
    return value


def _check_label(value: str, what: str) -> None:
    if not _LABEL.fullmatch(value):
        raise IdentityError(
            f"{value!r} is not a {what}: lower-case letters, digits and inner '-', at most 63 characters"
        )


def _check_subdomain(value: str, what: str) -> None:
    if len(value) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in value.split(".")):
        raise IdentityError(
            f"{value!r} is not a {what}: labels of lower-case letters, digits and inner '-', joined by dots, "
            f"at most {_LONGEST_NAME} characters"
        )


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SpiffeId:
    """An identity, `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; IdentityError if invalid."""

    trust_domain: str
    namespace: str
    service_account: str

    def __post_init__(self) -> None:
        check_trust_domain(self.trust_domain)
        check_namespace(self.namespace)
        check_service_account(self.service_account)
        if len(str(self)) > _LONGEST_ID:
            raise IdentityError(f"the SPIFFE ID of {self.namespace}/{self.service_account} is too long")

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @classmethod
    def parse(cls, uri: str) -> SpiffeId:
        """The identity that `uri` spells, exactly as `str` would; IdentityError otherwise."""
        trust_domain, path = _split(uri)
        match path.split("/"):
            case ["", "ns", namespace, "sa", service_account]:
                return cls(trust_domain=trust_domain, namespace=namespace, service_account=service_account)
        raise IdentityError(f"{uri!r} is not a workload's identity: its path must be /ns/NAMESPACE/sa/SERVICE-ACCOUNT")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HostId:
    """A host's identity, `spiffe://<trust domain>/gossamer/host/<host>`; it opens no workload's traffic."""

    trust_domain: str
    host: str

    def __post_init__(self) -> None:
        check_trust_domain(self.trust_domain)
        check_host(self.host)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}{_HOST_PATH}{self.host}"

    @classmethod
    def parse(cls, uri: str) -> HostId:
        """The host that `uri` spells; IdentityError otherwise."""
        trust_domain, path = _split(uri)
        if not path.startswith(_HOST_PATH):
            raise IdentityError(f"{uri!r} is not a host's identity: its path must be {_HOST_PATH}HOST")
        return cls(trust_domain=trust_domain, host=path.removeprefix(_HOST_PATH))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class WorkloadId:
    """A workload: its identity and, beside it, its own name; together what a certificate says."""

    spiffe_id: SpiffeId
    name: str

    def __post_init__(self) -> None:
        _check_subdomain(self.name, "workload name")
        if len(self.dns_name) > _LONGEST_NAME:
            raise IdentityError(f"{self.dns_name!r} is longer than a DNS name can be ({_LONGEST_NAME} characters)")

    @property
    def dns_name(self) -> str:
        """`WORKLOAD.NAMESPACE.workload.TRUSTDOMAIN`, the key of the workload's entry in the registry."""
        return f"{self.name}.{self.spiffe_id.namespace}{_MARK}{self.spiffe_id.trust_domain}"

    def __str__(self) -> str:
        return f"{self.spiffe_id} ({self.dns_name})"


def workload_id(*, trust_domain: str, namespace: str, service_account: str, name: str) -> WorkloadId:
    """The workload of these names; IdentityError if one is invalid."""
    spiffe_id = SpiffeId(trust_domain=trust_domain, namespace=namespace, service_account=service_account)
    return WorkloadId(spiffe_id=spiffe_id, name=name)


def parse_workload(uri: str, dns_name: str) -> WorkloadId:
    """The workload of a certificate with these two names; IdentityError if they are malformed or disagree."""
    spiffe_id = SpiffeId.parse(uri)
    suffix = f".{spiffe_id.namespace}{_MARK}{spiffe_id.trust_domain}"
    if not dns_name.endswith(suffix):
        raise IdentityError(f"{dns_name!r} does not name a workload of {uri}: it must end in {suffix!r}")
    return WorkloadId(spiffe_id=spiffe_id, name=dns_name.removesuffix(suffix))


def check_host(value: str) -> str:
    """`value` itself, if it can be a host's name (64 characters at most, as Linux has it); else IdentityError."""
    if len(value) > _LONGEST_HOST:
        raise IdentityError(f"the host name {value!r} is longer than {_LONGEST_HOST} characters")
    _check_subdomain(value, "host name")
    return value


def check_namespace(value: str) -> str:
    """`value` itself, if it can be a namespace; else IdentityError."""
    _check_label(value, "namespace")
    return value


def check_service_account(value: str) -> str:
    """`value` itself, if it can be a service account; else IdentityError."""
    _check_subdomain(value, "service account")
    return value


def _split(uri: str) -> tuple[str, str]:
    """Trust domain and path of a SPIFFE ID."""
    if not uri.startswith(_SCHEME):
        raise IdentityError(f"{uri!r} is not a SPIFFE ID: it must begin with {_SCHEME}")
    trust_domain, slash, rest = uri.removeprefix(_SCHEME).partition("/")
    return check_trust_domain(trust_domain), slash + rest
