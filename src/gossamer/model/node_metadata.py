"""What is known of a proxy under the names of Istio's node metadata, for EnvoyFilters that ask for it.

Invariant: all of it comes from the registry and from configuration; nothing that a proxy claims is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.model.proxy import Proxy

ISTIO_VERSION: Final = "1.30.0"
"""The version of Istio whose API this is: what `proxyVersion` of a patch is compared with."""
_FROM_ENVIRONMENT: Final = "ISTIO_META_"


def node_metadata(proxy: Proxy, environment: FrozenMap[str, str] = EMPTY) -> FrozenMap[str, str]:
    """The metadata of a proxy by key. `environment` is what ProxyConfig gives it: its ISTIO_META_ variables count."""
    extra = {
        key.removeprefix(_FROM_ENVIRONMENT): value
        for key, value in environment.items()
        if key.startswith(_FROM_ENVIRONMENT)
    }
    known = {
        "NAME": proxy.name,
        "NAMESPACE": proxy.namespace,
        "SERVICE_ACCOUNT": proxy.service_account,
        "CLUSTER_ID": proxy.cluster,
        "NETWORK": proxy.network,
        "INSTANCE_IPS": ",".join(proxy.addresses),
        "ISTIO_VERSION": ISTIO_VERSION,
    }
    return FrozenMap(extra | known)


def matches_version(pattern: str) -> bool:
    """Whether a `proxyVersion` (RE2, found anywhere) matches; an empty one always does."""
    try:
        return re.search(pattern, ISTIO_VERSION) is not None
    except re.error:
        return False


def matches_metadata(wanted: Mapping[str, str], known: Mapping[str, str]) -> bool:
    """Whether every key has exactly this value."""
    return all(known.get(key) == value for key, value in wanted.items())
