"""Hostnames as users write them: short ones, wildcards, and names in other namespaces.

Invariant: every name that leaves this room is fully qualified in lower case; nothing else expands names.
"""

from __future__ import annotations

from collections.abc import Iterable


def qualified(host: str, namespace: str, domain: str) -> str:
    """The full name of `host` as a resource in `namespace` means it. Istio's rule: a name without a dot is a Kubernetes
    service of that namespace; everything else (an IPv6 address among it) stands as written."""
    host = host.lower()
    if not host or "." in host or ":" in host or host.startswith("*"):
        return host
    return f"{host}.{namespace}.svc.{domain}"


def gateway_name(name: str, namespace: str) -> str:
    """`namespace/name` of a Gateway as a VirtualService in `namespace` means it; `mesh` stays."""
    return name if name == "mesh" or "/" in name else f"{namespace}/{name}"


def server_name(host: str, port: int, subset: str = "") -> str:
    """SNI of the mesh's mutual TLS to a service: by it a gateway between networks finds the cluster."""
    return f"outbound_.{port}_.{subset}_.{host}"


def covers(pattern: str, host: str) -> bool:
    """Whether `pattern` (a host, `*.suffix` or `*`) takes in all of `host`, which may be a wildcard itself."""
    if not pattern.startswith("*"):
        return pattern == host
    return host.removeprefix("*").endswith(pattern[1:])


def overlaps(one: str, other: str) -> str | None:
    """The more specific of two host patterns if one covers the other, else None."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def rank(pattern: str) -> tuple[bool, int]:
    """Sorts host patterns by how specific they are, the most specific last."""
    return (not pattern.startswith("*"), len(pattern))


def most_specific(patterns: Iterable[str], host: str) -> str | None:
    """The most specific of `patterns` that covers `host`, or None."""
    return max((pattern for pattern in patterns if covers(pattern, host)), key=rank, default=None)


def split_service(hostname: str, domain: str) -> tuple[str, str] | None:
    """(name, namespace) of a hostname of the form `name.namespace.svc.DOMAIN`, else None."""
    suffix = f".svc.{domain}"
    if not hostname.endswith(suffix) or hostname.startswith("*"):
        return None
    parts = hostname[: -len(suffix)].split(".")
    return (parts[0], parts[1]) if len(parts) == 2 else None


def short_names(hostname: str, namespace: str, domain: str) -> tuple[str, ...]:
    """What else a client in `namespace` may call a Kubernetes name, as its resolver's search path allows."""
    found = split_service(hostname, domain)
    if found is None:
        return ()
    name, home = found
    forms = (f"{name}.{home}.svc", f"{name}.{home}")
    return (name, *forms) if home == namespace else forms


def instance_names(hostname: str, instance_of: str, namespace: str, domain: str) -> tuple[str, ...]:
    """What else a client may call an instance of a headless service: its name before those of the service."""
    name = hostname.removesuffix(f".{instance_of}")
    return tuple(f"{name}.{short}" for short in short_names(instance_of, namespace, domain))


def exported(export_to: frozenset[str], namespace: str) -> bool:
    """Whether a resource exported to these namespaces is visible in `namespace`."""
    return "*" in export_to or namespace in export_to


def export_targets(declared: tuple[str, ...], default: tuple[str, ...], namespace: str) -> frozenset[str]:
    """`exportTo` with its default, `.` resolved; `~` (nobody) leaves nothing."""
    return frozenset(namespace if item == "." else item for item in declared or default if item != "~")
