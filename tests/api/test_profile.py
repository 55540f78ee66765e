"""A profile lies under what users write: theirs replaces it by name, and goes before it where two conflict."""

from __future__ import annotations

import pytest

from gossamer.api.load import Loaded, SourceFile, load
from gossamer.api.mesh_config import MeshTLSProtocol, NormalizationType, OutboundTrafficPolicyMode
from gossamer.api.mesh_file import load_mesh_file
from gossamer.api.profile import Profile, profile_name
from gossamer.core.diagnostics import Severity
from gossamer.core.ids import ResourceId
from gossamer.core.memo import Memo
from gossamer.model.mesh import build_mesh
from gossamer.model.policy import MutualTls
from gossamer.model.sidecars import sidecar_for

NAMES = {"nist-mutual-tls", "nist-deny-by-default", "nist-end-user", "nist-own-namespace"}


def loaded(*texts: str, mesh: str | None = None, memo: Memo | None = None) -> Loaded:
    files = [SourceFile(name=f"{number}.yaml", text=text) for number, text in enumerate(texts)]
    bare = SourceFile(name="mesh.yaml", text=mesh) if mesh is not None else None
    return load(files, mesh_config=bare, profile=Profile.NIST, memo=memo)


def resource(kind: str, name: str, spec: str, namespace: str = "istio-system") -> str:
    group = "networking" if kind == "Sidecar" else "security"
    return (
        f"apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {spec}\n"
    )


def mode(found: Loaded, namespace: str = "shop") -> MutualTls:
    mesh = build_mesh(found.config, memo := Memo())
    return mesh.policies.for_workload(namespace, {}, memo).peer.default  # type: ignore[arg-type]


def test_its_documents_are_ordinary_ones_with_a_place() -> None:
    found = loaded()
    assert not found.diagnostics
    assert {id_.name for id_ in found.index} == NAMES
    assert {written.file for written in found.index.values()} == {profile_name(Profile.NIST)} == {"profile nist"}
    place = found.index.position(
        ResourceId(kind="AuthorizationPolicy", namespace="istio-system", name="nist-end-user"), "spec.rules[0]"
    )
    assert (place.file, place.line > 10) == ("profile nist", True)
    assert mode(found) is MutualTls.STRICT
    assert not load([]).index


def test_it_lives_in_the_root_namespace() -> None:
    found = loaded(mesh="rootNamespace: mesh-root")
    assert {id_.namespace for id_ in found.index} == {"mesh-root"}


def test_the_mesh_config_is_laid_under_too() -> None:
    plain = loaded().config.mesh
    assert plain.outbound_traffic_policy.mode is OutboundTrafficPolicyMode.REGISTRY_ONLY
    assert plain.path_normalization is not None
    assert plain.path_normalization.normalization is NormalizationType.DECODE_AND_MERGE_SLASHES
    own = loaded(mesh="outboundTrafficPolicy: {mode: ALLOW_ANY}\ntrustDomain: a.b\n").config.mesh
    assert own.outbound_traffic_policy.mode is OutboundTrafficPolicyMode.ALLOW_ANY
    assert (own.trust_domain, own.access_log_file) == ("a.b", "/dev/stdout")
    snake = loaded(mesh="path_normalization: {normalization: NONE}\nmeshMTLS: {ecdhCurves: [P-256]}\n").config.mesh
    assert snake.path_normalization is not None
    assert snake.path_normalization.normalization is NormalizationType.NONE
    assert snake.mesh_mtls is not None
    assert (snake.mesh_mtls.ecdh_curves, snake.mesh_mtls.min_protocol_version) == (("P-256",), MeshTLSProtocol.TLSV1_3)


def test_what_is_written_under_the_same_name_replaces_it() -> None:
    own = resource(
        "AuthorizationPolicy",
        "nist-end-user",
        '{action: DENY, rules: [{to: [{operation: {paths: [/x], ports: ["80"]}}]}]}',
    )
    found = loaded(own)
    (said,) = found.diagnostics
    assert (said.severity, said.code, said.position.file) == (Severity.INFO, "profile-replaced", "0.yaml")
    (policy,) = [one for one in found.config.authorization_policies if one.name == "nist-end-user"]
    assert policy.spec.rules[0].to[0].operation is not None
    assert len(found.index) == len(NAMES)


def test_a_broken_replacement_denies() -> None:
    found = loaded(resource("AuthorizationPolicy", "nist-end-user", "{action: DENY, rules: [{nonsense: 1}]}"))
    (policy,) = [one for one in found.config.authorization_policies if one.name == "nist-end-user"]
    assert policy.fail_closed


@pytest.mark.parametrize("name", ["a", "zzz"])
def test_what_users_write_for_the_mesh_goes_before_it(name: str) -> None:
    own = resource("PeerAuthentication", name, "{mtls: {mode: PERMISSIVE}}")
    assert mode(loaded(own)) is MutualTls.PERMISSIVE
    assert mode(loaded(own.replace("istio-system", "shop"))) is MutualTls.PERMISSIVE
    assert mode(loaded(own.replace("istio-system", "shop")), "other") is MutualTls.STRICT
    sidecar = resource("Sidecar", name, "{egress: [{hosts: ['shop/*']}]}")
    mesh = build_mesh(loaded(sidecar).config, Memo())
    chosen = sidecar_for(mesh.sidecars, "any", {})  # type: ignore[arg-type]
    assert chosen is not None
    assert chosen.origin.resource.name == name


def test_nothing_of_it_is_remembered_as_the_users() -> None:
    found = loaded(resource("PeerAuthentication", "a", "{}"))
    assert list(found.last_good.files) == ["0.yaml"]
    again = load([], found.last_good)
    assert not again.index


def test_a_file_that_cannot_be_read_leaves_the_profile_in_force() -> None:
    found = loaded("kind: [")
    assert not found.ready
    assert {id_.name for id_ in found.index} == NAMES


def test_a_mesh_file_chooses_it() -> None:
    reading = load_mesh_file("version: 1\nprofile: nist\n")
    assert reading.file is not None
    assert reading.file.profile is Profile.NIST
    (wrong,) = load_mesh_file("version: 1\nprofile: fips\n").diagnostics
    assert (wrong.path, "nist" in f"{wrong.message} {wrong.hint}") == ("profile", True)
