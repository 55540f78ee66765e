"""Certificates of users' Secrets, under the names by which TLS contexts ask for them.

Invariant: a Secret that holds no certificate gives no resource, and its name none to anyone else.
"""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext, TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret as EnvoySecret

from gossamer.api.kubernetes import ConfigMap, Secret
from gossamer.compile.draft import Draft
from gossamer.compile.serialise import finished
from gossamer.core.ids import Origin, ResourceId
from gossamer.core.memo import Memo
from gossamer.core.resources import SECRET, Resource, Table
from gossamer.model.credentials import AUTHORITY
from gossamer.model.view import Credential


def compile_secrets(credentials: tuple[Credential, ...], memo: Memo) -> tuple[Table, ...]:
    """`NAME` for a certificate and its key, `NAME-cacert` for the CA beside it."""
    found = [resource for credential in credentials for resource in memo(_resources, credential)]
    return (Table(SECRET, found),) if found else ()


def _resources(credential: Credential) -> tuple[Resource, ...]:
    return tuple(
        finished(
            Draft(
                type_url=SECRET,
                name=message.name,
                message=message,
                references=frozenset(),
                origins=(Origin(resource=holder),),
            )
        )
        for message, holder in _messages(credential)
    )


def _messages(credential: Credential) -> Iterator[tuple[EnvoySecret, ResourceId]]:
    if credential.certificate is not None:
        pair = _certificate(credential.certificate.spec)
        if pair is not None:
            yield EnvoySecret(name=credential.name, tls_certificate=pair), credential.certificate.id
    for holder in (credential.authority, credential.certificate, credential.bundle):
        context = _authority(holder.spec) if holder is not None else None
        if holder is not None and context is not None:
            yield EnvoySecret(name=credential.name + AUTHORITY, validation_context=context), holder.id
            return


def _certificate(secret: Secret) -> TlsCertificate | None:
    """Kubernetes' keys (`tls.crt`, `tls.key`), or those of generic Secrets (`cert`, `key`); an OCSP response if there
    is one (`tls.ocsp-staple`)."""
    chain, key = secret.value("tls.crt") or secret.value("cert"), secret.value("tls.key") or secret.value("key")
    if not (chain and key):
        return None
    pair = TlsCertificate(certificate_chain=_inline(chain), private_key=_inline(key))
    staple = secret.value("tls.ocsp-staple")
    if staple:
        pair.ocsp_staple.CopyFrom(_inline(staple))
    return pair


def _authority(secret: Secret | ConfigMap) -> CertificateValidationContext | None:
    """Kubernetes' key (`ca.crt`), or that of generic Secrets (`cacert`), with a list of what is revoked (`ca.crl`,
    `crl`)."""
    roots, revoked = secret.value("ca.crt") or secret.value("cacert"), secret.value("ca.crl") or secret.value("crl")
    if not roots:
        return None
    context = CertificateValidationContext(trusted_ca=_inline(roots))
    if revoked:
        context.crl.CopyFrom(_inline(revoked))
    return context


def _inline(content: bytes) -> DataSource:
    return DataSource(inline_bytes=content)
