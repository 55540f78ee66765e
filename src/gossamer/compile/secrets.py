"""Certificates of users' Secrets for gateways, under the names by which TLS contexts ask for them.

Invariant: a Secret that holds no certificate gives no resource, and its name none to anyone else.
"""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext, TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret as EnvoySecret

from gossamer.api.kubernetes import Secret
from gossamer.api.resource import Resource as Document
from gossamer.compile.draft import Draft
from gossamer.compile.serialise import finished
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.core.resources import SECRET, Resource, Table


def compile_secrets(secrets: tuple[Document[Secret], ...], memo: Memo) -> tuple[Table, ...]:
    """`kubernetes://NAME` for a certificate and its key, `kubernetes://NAME-cacert` for the clients' CA beside it; of a
    Secret that holds a CA alone, `kubernetes://NAME` is that."""
    found = [resource for secret in secrets for resource in memo(_resources, secret)]
    return (Table(SECRET, found),) if found else ()


def _resources(secret: Document[Secret]) -> tuple[Resource, ...]:
    return tuple(
        finished(
            Draft(
                type_url=SECRET,
                name=message.name,
                message=message,
                references=frozenset(),
                origins=(Origin(resource=secret.id),),
            )
        )
        for message in _messages(secret)
    )


def _messages(secret: Document[Secret]) -> Iterator[EnvoySecret]:
    """Kubernetes' keys (`tls.crt`, `tls.key`, `ca.crt`) and those of generic Secrets (`cert`, `key`, `cacert`)."""
    name, spec = f"kubernetes://{secret.name}", secret.spec
    chain, key = spec.value("tls.crt") or spec.value("cert"), spec.value("tls.key") or spec.value("key")
    authority = spec.value("ca.crt") or spec.value("cacert")
    if chain and key:
        certificate = TlsCertificate(certificate_chain=_inline(chain), private_key=_inline(key))
        yield EnvoySecret(name=name, tls_certificate=certificate)
    if authority:
        context = CertificateValidationContext(trusted_ca=_inline(authority))
        alone = not (chain and key) and not secret.name.endswith("-cacert")
        yield EnvoySecret(
            name=name if secret.name.endswith("-cacert") else f"{name}-cacert", validation_context=context
        )
        if alone:
            yield EnvoySecret(name=name, validation_context=context)


def _inline(content: bytes) -> DataSource:
    return DataSource(inline_bytes=content)
