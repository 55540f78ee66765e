"""What of a Gateway of the Gateway API is valid and yet has no effect here, or not the one that it names.

Invariant: nothing that guards who may connect is passed over: such a thing is an error (here, or in
`api.unsupported`), and its Gateway is not taken.
"""

from __future__ import annotations

from typing import Final

from gossamer.api.findings import At
from gossamer.api.gateway import HTTP3, ServerTLSMode
from gossamer.api.gateway_api.gateway import KubernetesGateway, Listener
from gossamer.api.resource import Resource
from gossamer.api.rules.common import require

TERMINATE_MODE: Final = "gateway.istio.io/tls-terminate-mode"
"""Istio's TLS option of a listener: how it treats clients' certificates."""
_MODES: Final = tuple(
    mode.value for mode in ServerTLSMode if mode not in (ServerTLSMode.PASSTHROUGH, ServerTLSMode.AUTO_PASSTHROUGH)
)


def check_gateway_support(resource: Resource[KubernetesGateway], at: At) -> None:
    """Say what of a valid Gateway is not as its author may think."""
    wanted = resource.annotations.get(HTTP3)
    if wanted not in (None, "true", "false"):
        here = At(("metadata", "annotations", HTTP3), at.findings)
        here.error("invalid-value", f'"{wanted}" is not "true" or "false"')
    for index, address in enumerate(resource.spec.addresses):
        if address.type != "Hostname":
            message = "only addresses of type Hostname have an effect: the service of those who run the Gateway"
            at["addresses", index, "type"].warning("no-effect", message)
    for index, listener in enumerate(resource.spec.listeners):
        _check_listener(listener, at["listeners", index])


def _check_listener(listener: Listener, at: At) -> None:
    if listener.protocol not in ("HTTP", "HTTPS"):
        message = f"listeners of protocol {listener.protocol} are not supported yet: this one is not opened"
        at["protocol"].warning("no-effect-yet", message)
    tls = listener.tls
    if tls is None:
        return
    for name in tls.options:
        here = at["tls", "options", name]
        if name == TERMINATE_MODE:
            mode = tls.options[name]
            require(mode in _MODES, here, f'"{mode}" is none of {", ".join(_MODES)}')
        else:
            here.error("unsupported-field", f'the option "{name}" is not supported', on_key=True)
    if not tls.certificate_refs and tls.options.get(TERMINATE_MODE) != ServerTLSMode.ISTIO_MUTUAL:
        at["tls"].warning("no-effect", "without a certificate this listener is not opened")
    for index, reference in enumerate(tls.certificate_refs):
        if (reference.group, reference.kind) != ("", "Secret"):
            message = "a certificate is read from a Secret: this listener is not opened"
            at["tls", "certificateRefs", index, "kind"].warning("no-effect", message)
