"""Which strings are names: of hosts, namespaces, labels, headers, addresses.

Invariant: a check returns what is wrong, as a sentence without a subject, and the empty string when nothing is.
Rules: RFC 1123 as Kubernetes applies it, Istio's wildcard domains, RFC 9110 for headers.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_LABEL: Final = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_LOWER_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_WILDCARD_LABEL: Final = re.compile(r"\*|(\*-?)?[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
_SNI_DNAT: Final = re.compile(r"(outbound|inbound)_\.[0-9]+_\.[-a-zA-Z0-9_]*_?\.(?P<host>.+)")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_IPV4: Final = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")
_HEADER: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")

_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_LONGEST_TRUST_DOMAIN: Final = 255


def namespace_problem(name: str) -> str:
    """For a namespace, and for anything else that is one DNS label."""
    return "" if _LOWER_LABEL.fullmatch(name) else f'"{name}" is not a DNS label (a-z, 0-9 and -, at most 63)'


def object_name_problem(name: str) -> str:
    """For the name of a resource."""
    if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        return f'"{name}" is not a resource name (a-z, 0-9, - and ., at most 253)'
    return ""


def domain_problem(host: str) -> str:
    """For a domain name without wildcard; one label is enough."""
    if not host:
        return "must not be empty"
    if len(host) > 255:
        return "is longer than 255 characters"
    labels = host.removesuffix(".").split(".")
    if all(_LABEL.fullmatch(label) for label in labels):
        if labels[-1].isdigit() and not is_ip(host):
            return f'"{host}": the last label must not be all digits'
        return ""
    sni = _SNI_DNAT.fullmatch(host)
    if sni and not domain_problem(sni["host"]):
        return ""
    return f'"{host}" is not a domain name'


def wildcard_domain_problem(host: str) -> str:
    """For a domain name whose first label may be or begin with `*`."""
    if not host.startswith("*"):
        return domain_problem(host)
    first, _, rest = host.partition(".")
    if not _WILDCARD_LABEL.fullmatch(first) or len(host) > 255:
        return f'"{host}" is not a domain name; a wildcard is *, *.example.com or *-suffix.example.com'
    return domain_problem(rest) if rest or host.endswith(".") else ""


def is_ip(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    if _IPV4.fullmatch(text):
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def subnet_problem(text: str) -> str:
    """For an IP address or a CIDR (host bits may be set)."""
    address, slash, length = text.partition("/")
    try:
        bits = ipaddress.ip_address(address).max_prefixlen
    except ValueError:
        return f'"{text}" is not an IP address or CIDR'
    if slash and not (length.isascii() and length.isdigit() and int(length) <= bits):
        return f'"{text}" is not a CIDR'
    return ""


def locality_problem(text: str) -> str:
    """For `region/zone/subzone`, of which the last parts may be left out. Each part is a label's value."""
    parts = text.split("/")
    if len(parts) <= 3 and all(part and _LABEL_VALUE.fullmatch(part) for part in parts):
        return ""
    return f'"{text}" is not region/zone/subzone (letters, digits, -, _ and .)'


def label_value_problem(text: str) -> str:
    """For a name that is carried as a label's value."""
    good = text and _LABEL_VALUE.fullmatch(text)
    return "" if good else f'"{text}" is not a name (letters, digits, -, _ and ., at most 63)'


def label_problem(key: str, value: str) -> str:
    """For a Kubernetes label."""
    prefix, slash, name = key.rpartition("/")
    if (slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix))) or not _LABEL_NAME.fullmatch(name):
        return f'"{key}" is not a label key'
    if not _LABEL_VALUE.fullmatch(value):
        return f'"{value}" is not a label value (letters, digits, -, _ and ., at most 63)'
    return ""


def trust_domain_problem(name: str) -> str:
    """What is wrong with a trust domain by the SPIFFE specification; empty if nothing is."""
    if len(name) <= _LONGEST_TRUST_DOMAIN and _TRUST_DOMAIN.fullmatch(name):
        return ""
    return f"{name!r} is no trust domain: lower-case letters, digits, '-', '_', and single dots between them"


def header_problem(name: str) -> str:
    """For the name of an HTTP header."""
    if not name:
        return "header name cannot be empty"
    return "" if _HEADER.fullmatch(name) else f'"{name}" is not a header name'


def hosts_overlap(one: str, other: str) -> bool:
    """Whether some host is named by both: they are equal, or one is a wildcard over the other."""
    if one.startswith("*"):
        tail = one[1:]
        return other.endswith(tail) or (other.startswith("*") and tail.endswith(other[1:]))
    if other.startswith("*"):
        return one.endswith(other[1:])
    return one == other


def is_within(host: str, outer: str) -> bool:
    """Whether every host that `host` names is named by `outer` too."""
    if not outer.startswith("*"):
        return host == outer
    return host.removeprefix("*").endswith(outer[1:])
