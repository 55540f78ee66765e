"""Files to Config: order, memory of what was good, cost."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.config import Config
from gossamer.api.last_good import LastGood
from gossamer.api.load import Loaded, SourceFile, load
from gossamer.api.mesh_config import OutboundTrafficPolicyMode
from gossamer.core.diagnostics import Severity
from gossamer.core.errors import StateError
from gossamer.core.ids import ResourceId
from gossamer.core.memo import Memo
from tests.api.documents import errors_of, file_of, load_one, resource, text_of

ROUTES = {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]}
BROKEN = {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}], "timeout": "soon"}]}


def _route(timeout: str = "1s", name: str = "a", **metadata: str) -> dict[str, object]:
    spec = {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}], "timeout": timeout}]}
    return resource("VirtualService", spec, name, **metadata)


def _timeouts(loaded: Loaded) -> dict[str, float | None]:
    found = {}
    for one in loaded.config.virtual_services:
        timeout = one.spec.http[0].timeout
        found[one.name] = timeout.total_seconds() if timeout else None
    return found


def test_a_resource_gets_the_default_namespace_and_its_metadata() -> None:
    metadata: dict[str, Any] = {
        "labels": {"a": "b"},
        "annotations": {"c": "1"},
        "creationTimestamp": "2026-01-31T13:00:00+01:00",
    }
    (found,) = load_one(resource("VirtualService", ROUTES, **metadata)).config.virtual_services
    assert found.id == ResourceId(kind="VirtualService", namespace="default", name="a")
    assert (dict(found.labels), dict(found.annotations)) == ({"a": "b"}, {"c": "1"})
    assert found.creation == "2026-01-31T12:00:00Z"
    assert found.age_key == ("2026-01-31T12:00:00Z", "a.default")


def test_both_spellings_of_a_field_are_taken() -> None:
    camel = load_one(resource("VirtualService", {"hosts": ["a"], "exportTo": ["."], **ROUTES})).config
    snake = load_one(resource("VirtualService", {"hosts": ["a"], "export_to": ["."], **ROUTES})).config
    assert camel == snake
    assert camel.virtual_services[0].spec.export_to == (".",)


def test_layout_comments_and_file_names_change_nothing_in_a_config() -> None:
    plain = file_of(_route())
    shifted = SourceFile(name="other.yaml", text="# a comment\n\n" + plain.text.replace("1s", "1s # quick"))
    one, other = load([plain]), load([shifted])
    assert one.config == other.config
    assert hash(one.config) == hash(other.config)
    id = ResourceId(kind="VirtualService", namespace="default", name="a")
    assert one.index.position(id).line == 1
    assert other.index.position(id).line == 3
    field = other.index.position(id, "spec.http[0].timeout")
    assert (field.file, field.line, field.column) == ("other.yaml", 14, 5)
    assert other.index.position(ResourceId(kind="x")).line == 0


def test_lists_are_flattened_and_their_items_have_places() -> None:
    text = """\
        apiVersion: v1
        kind: List
        items:
        - apiVersion: v1
          kind: Service
          metadata: {name: a}
          spec: {ports: [{port: 80}]}
        - apiVersion: networking.istio.io/v1
          kind: VirtualService
          metadata: {name: b}
          spec: {hosts: [b], http: [{route: [{destination: {host: b}, weight: many}]}]}
        """
    loaded = load_one(text)
    assert [one.name for one in loaded.config.services] == ["a"]
    (error,) = errors_of(loaded)
    assert error.path == "items[1].spec.http[0].route[0].weight"
    assert error.position.line == 11
    assert loaded.index.position(ResourceId(kind="VirtualService", namespace="default", name="b")).line == 8


def test_of_two_files_with_one_resource_the_first_by_name_wins() -> None:
    first, second = file_of(_route("1s"), "a.yaml"), file_of(_route("2s"), "b.yaml")
    for files in ([first, second], [second, first]):
        loaded = load(files)
        assert _timeouts(loaded) == {"a": 1.0}
        (error,) = errors_of(loaded)
        assert error.code == "duplicate-resource"
        assert error.position.file == "b.yaml"
        assert "a.yaml:1" in error.message


def test_a_resource_twice_in_one_file() -> None:
    text = text_of(_route("1s"), _route("2s"), _route("3s", name="b"))
    loaded = load([file_of(text)])
    assert _timeouts(loaded) == {"a": 1.0, "b": 3.0}
    assert [(error.code, error.position.line > 10) for error in errors_of(loaded)] == [("duplicate-resource", True)]


def test_an_invalid_route_keeps_its_last_valid_version_and_hurts_nobody_else() -> None:
    before = load([file_of(text_of(_route("1s"), _route("2s", name="b")))])
    edited = [file_of(text_of(_route("soon"), _route("3s", name="b")))]
    after = load(edited, before.last_good)
    assert _timeouts(after) == {"a": 1.0, "b": 3.0}
    assert [error.code for error in errors_of(after)] == ["invalid-duration"]
    assert [found.code for found in after.diagnostics if found.severity is Severity.INFO] == ["last-valid-version"]
    # It stays so for as long as the mistake does, and after a restart.
    again = load(edited, LastGood.from_bytes(after.last_good.to_bytes()))
    assert (again.config, again.last_good) == (after.config, after.last_good)
    # Without memory the resource is missing; deleted, it is forgotten.
    assert _timeouts(load(edited)) == {"b": 3.0}
    assert load([file_of("")], after.last_good).last_good.by_id() == {}


def test_an_invalid_route_keeps_its_version_when_it_moves_to_another_file() -> None:
    before = load([file_of(_route("1s"), "a.yaml")])
    after = load([file_of(_route("soon"), "b.yaml")], before.last_good)
    assert _timeouts(after) == {"a": 1.0}
    assert list(after.last_good.files) == ["b.yaml"]


UNREADABLE = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n  metadata: {name: a}\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (UNREADABLE, "invalid-yaml"),
        ("kind: VirtualService\nmetadata: {name: a}\n", "required"),
        ("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {}\n", "required"),
        ("apiVersion: networking.istio.io/v1\nkind: VirtualServce\nmetadata: {name: a}\n", "unknown-kind"),
        ("apiVersion: networking.istio.io/v7\nkind: VirtualService\nmetadata: {name: a}\n", "unknown-version"),
        ("apiVersion: networking.istoi.io/v1\nkind: VirtualService\nmetadata: {name: a}\n", "unknown-group"),
        ("just text\n", "invalid-type"),
    ],
)
def test_an_unreadable_document_freezes_what_its_file_last_gave(text: str, code: str) -> None:
    deny = resource("AuthorizationPolicy", {"action": "DENY", "rules": [{}]}, "no")
    before = load([file_of(text_of(_route("1s"), deny)), file_of(_route("1s", name="b"), "b.yaml")])
    files = [SourceFile(name="a.yaml", text=text), file_of(_route("2s", name="b"), "b.yaml")]
    after = load(files, before.last_good)
    assert [error.code for error in errors_of(after)] == [code]
    assert _timeouts(after) == {"a": 1.0, "b": 2.0}
    assert after.config.authorization_policies == before.config.authorization_policies
    assert after.ready
    assert after.unread == ("a.yaml",)
    assert load(files, after.last_good).config == after.config


def test_a_document_that_can_be_read_goes_before_what_is_frozen() -> None:
    before = load([file_of(text_of(_route("1s"), _route("1s", name="b")))])
    text = text_of(_route("2s")) + "---\n" + UNREADABLE
    assert _timeouts(load([SourceFile(name="a.yaml", text=text)], before.last_good)) == {"a": 2.0, "b": 1.0}
    # The frozen resource was moved to another file meanwhile.
    files = [SourceFile(name="a.yaml", text=UNREADABLE), file_of(_route("5s", name="b"), "b.yaml")]
    assert _timeouts(load(files, before.last_good)) == {"a": 1.0, "b": 5.0}


def test_not_ready_until_everything_could_once_be_read() -> None:
    broken = SourceFile(name="a.yaml", text=UNREADABLE)
    good = file_of(_route(), "b.yaml")
    first = load([broken, good])
    assert not first.ready
    assert not load([broken, good], LastGood.from_bytes(first.last_good.to_bytes())).ready
    whole = load([good], first.last_good)
    assert whole.ready
    assert load([broken, good], whole.last_good).ready


def test_a_syntax_error_stays_in_its_document() -> None:
    text = text_of(_route("1s")) + "---\na: [\n---\n" + text_of(_route("2s", name="b"))
    loaded = load([SourceFile(name="a.yaml", text=text)])
    assert _timeouts(loaded) == {"a": 1.0, "b": 2.0}
    (error,) = errors_of(loaded)
    assert error.code == "invalid-yaml"
    assert text.splitlines()[error.position.line - 1].startswith(("a: [", "---"))


def test_mesh_config_is_taken_from_its_file_or_from_a_key_of_it() -> None:
    bare = SourceFile(name="mesh.yaml", text="trustDomain: example.org\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n")
    loaded = load([], mesh_config=bare)
    assert loaded.config.mesh.trust_domain == "example.org"
    assert loaded.config.mesh.outbound_traffic_policy.mode is OutboundTrafficPolicyMode.REGISTRY_ONLY
    keyed = SourceFile(name="gossamer.yaml", text="version: 1\nmeshConfig: {trustDomain: example.org}\n")
    assert load([], mesh_config=keyed, mesh_config_key="meshConfig").config.mesh.trust_domain == "example.org"
    assert load([]).config.mesh.outbound_traffic_policy.mode is OutboundTrafficPolicyMode.ALLOW_ANY


@pytest.mark.parametrize("text", ["trustDomain: 3\n", "trustDomain: [\n", "trustDomain: ''\n", "a: 1\n---\nb: 1\n"])
def test_an_invalid_mesh_config_keeps_its_last_valid_version(text: str) -> None:
    before = load([], mesh_config=SourceFile(name="mesh.yaml", text="trustDomain: example.org\n"))
    broken = SourceFile(name="mesh.yaml", text=text)
    after = load([], LastGood.from_bytes(before.last_good.to_bytes()), mesh_config=broken)
    assert after.config.mesh.trust_domain == "example.org"
    (error,) = errors_of(after)
    assert (error.kind, error.position.file) == ("MeshConfig", "mesh.yaml")
    assert not load([], mesh_config=broken).ready


def test_an_unsupported_setting_of_the_mesh_is_left_out_and_the_others_hold() -> None:
    text = "trustDomain: example.org\nconfigSources: [{address: x}]\ncertificates: [{secretName: x}]\n"
    loaded = load([], mesh_config=SourceFile(name="mesh.yaml", text=text))
    assert not loaded.has_errors
    assert [(found.code, found.path, found.position.line) for found in loaded.diagnostics] == [
        ("unsupported-field", "configSources", 2),
        ("unsupported-field", "certificates", 3),
    ]
    mesh = loaded.config.mesh
    assert (mesh.trust_domain, mesh.config_sources, mesh.certificates) == ("example.org", (), ())


def test_a_load_reads_only_what_changed() -> None:
    files = [file_of(_route(name=f"r{number}"), f"{number:03}.yaml") for number in range(50)]
    memo = Memo()
    before = load(files, memo=memo)
    memo.misses = 0
    same = load(files, before.last_good, memo=memo)
    assert memo.misses == 0
    assert same.config == before.config
    assert same.config.virtual_services[0] is before.config.virtual_services[0]
    files[7] = file_of(_route("9s", name="r7"), "007.yaml")
    after = load(files, before.last_good, memo=memo)
    assert memo.misses == 2  # the file, and the one document in it
    changed = [
        one.name
        for one, old in zip(after.config.virtual_services, before.config.virtual_services, strict=True)
        if one is not old
    ]
    assert changed == ["r7"]


def test_of_a_file_with_many_documents_only_the_changed_one_is_read() -> None:
    texts = [text_of(_route(name=f"r{number}")) for number in range(50)]
    memo = Memo()
    load([SourceFile(name="all.yaml", text="---\n".join(texts))], memo=memo)
    texts[7] = "# moved down a line\n" + text_of(_route("9s", name="r7"))
    memo.misses = 0
    after = load([SourceFile(name="all.yaml", text="---\n".join(texts))], memo=memo)
    assert memo.misses == 2
    assert _timeouts(after)["r7"] == 9.0


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version":1}', b"\xff", b'{"version":2}'])
def test_damaged_memory_is_an_operational_error(content: bytes) -> None:
    with pytest.raises(StateError, match="last good"):
        LastGood.from_bytes(content)


def test_resources_are_in_order_of_namespace_and_name() -> None:
    routes = [_route(name=name, namespace=namespace) for name, namespace in (("b", "x"), ("a", "x"), ("c", "w"))]
    loaded = load([file_of(route, f"{number}.yaml") for number, route in enumerate(routes)])
    order = [(one.namespace, one.name) for one in loaded.config.virtual_services]
    assert order == [("w", "c"), ("x", "a"), ("x", "b")]


def test_nothing_gives_the_default_config() -> None:
    loaded = load([file_of("# nothing\n---\n---\n")])
    assert loaded.config == Config()
    assert loaded.ready
    assert loaded.diagnostics == ()
