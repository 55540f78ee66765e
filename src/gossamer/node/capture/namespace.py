"""What a workload's network namespace holds: loopback, one link to nowhere, and the rules.

Invariant: both ends of the link are inside, so no packet can leave: whatever the workload says to the world, it says to
its Envoy, whose other sockets are on the host.
"""

from __future__ import annotations

import contextlib
import ipaddress
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute

from gossamer.node.capture.nftables import load_table
from gossamer.node.capture.rules import workload_chains

LINK: Final = "eth0"
_PEER: Final = "nowhere"
TABLE: Final = "gossamer"


def build_network(document: dict[str, Any]) -> None:
    """Furnish this process's network namespace, which must be new. OSError or NetlinkError where that is refused."""
    addresses = [ipaddress.ip_address(address) for address in document["addresses"]]
    six = Path("/proc/sys/net/ipv6").is_dir()
    _set_switches(six=six)
    load_table(TABLE, workload_chains(document["outbound_port"], document["inbound_port"], document["dns_port"]))
    with IPRoute() as ip:
        (loopback,) = ip.link_lookup(ifname="lo")
        ip.link("set", index=loopback, state="up")
        ip.link("add", ifname=LINK, kind="veth", peer={"ifname": _PEER})
        (link,) = ip.link_lookup(ifname=LINK)
        (peer,) = ip.link_lookup(ifname=_PEER)
        for address in addresses:
            if address.version == 4 or six:
                ip.addr("add", index=link, address=str(address), prefixlen=address.max_prefixlen)
        ip.link("set", index=peer, state="up")
        ip.link("set", index=link, state="up")
        # the link is on-link for every address there is: nobody has to answer for a gateway
        ip.route("add", dst="0.0.0.0/0", oif=link, scope="link")
        if six:
            ip.route("add", dst="::/0", oif=link)


def _set_switches(*, six: bool) -> None:
    switches = {
        "ipv4/ip_unprivileged_port_start": "0",  # a workload may serve port 80: the namespace is its own
    }
    if six:
        # without these, addresses are unusable for a second, and the kernel chats on the link
        switches |= {
            "ipv6/conf/default/accept_dad": "0",
            "ipv6/conf/default/accept_ra": "0",
            "ipv6/conf/default/router_solicitations": "0",
        }
    for name, value in switches.items():
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys/net", name).write_text(value)
