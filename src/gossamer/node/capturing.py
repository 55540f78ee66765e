"""How the traffic of one workload of this host comes to its sidecar: what is asked of whoever captures."""

from __future__ import annotations

from gossamer.model.proxy import Capture, CaptureMode, ProxyType
from gossamer.node.capture.workloads import Captured, CaptureRequest
from gossamer.node.host import Host
from gossamer.node.users import uids_of
from gossamer.node.workload import WorkloadSpec


def is_explicit(host: Host, spec: WorkloadSpec) -> bool:
    """Whether its application must be told where to call, since nothing captures what it sends."""
    return host.choice.mode is CaptureMode.EXPLICIT and spec.type is ProxyType.SIDECAR


async def capture(host: Host, spec: WorkloadSpec) -> Captured:
    """Take the traffic of a workload to its sidecar, as this host has chosen. CaptureError if it cannot."""
    explicit, domain = is_explicit(host, spec), host.domain
    start = host.starts.of(spec.key).settings
    request = CaptureRequest(
        namespace=spec.namespace,
        name=spec.name,
        ports=() if spec.type is ProxyType.ROUTER else tuple(port.number for port in spec.ports),
        services=host.registration.services.value if explicit else (),
        web_services=host.registration.web_services.value if explicit else (),
        domain=domain,
        mesh_address=host.settings.address,
        search=(f"{spec.namespace}.svc.{domain}", f"svc.{domain}", domain),
        uids=uids_of(spec.users),
        outbound_port=start.outbound_port,
        inbound_port=start.inbound_port,
    )
    if spec.type is ProxyType.ROUTER:
        # a gateway captures nothing: it listens on the host, for whoever comes
        return Captured(capture=Capture(address=spec.gateway_address), addresses=(request.mesh_address,))
    return await host.capturer.add(request)
