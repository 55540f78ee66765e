"""What holds for every input: order changes nothing, nothing raises, memory makes no difference."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossamer.api.last_good import LastGood
from gossamer.api.load import SourceFile, load
from gossamer.api.mesh_file import load_mesh_file
from gossamer.api.reader import UnreadableError, read_value
from gossamer.core.memo import Memo
from tests.api.documents import GROUPS
from tests.api.rich import RICH

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

WORDS = st.sampled_from(
    ["a", "b", "*", "*.a.b", "a.b", "", "10.0.0.1", "0.0.0.0/0", "5s", "1ms", "80", "STRICT", "ALLOW", "DENY", "HTTP",
     "unix://@x", "request.auth.principal", "(", "/{**}", "x" * 300]
)  # fmt: skip
FIELDS = st.sampled_from(
    ["hosts", "http", "tls", "tcp", "match", "route", "destination", "host", "port", "number", "name", "weight",
     "subset", "uri", "prefix", "regex", "exact", "headers", "request", "set", "timeout", "retries", "attempts",
     "fault", "delay", "abort", "redirect", "rewrite", "mirrors", "corsPolicy", "gateways", "export_to", "servers",
     "protocol", "mode", "credentialNames", "selector", "matchLabels", "labels", "rules", "from", "source", "to",
     "operation", "when", "key", "values", "principals", "paths", "ports", "targetRefs", "action", "mtls",
     "portLevelMtls", "endpoints", "address", "addresses", "resolution", "trafficPolicy", "loadBalancer", "simple",
     "consistentHash", "connectionPool", "outlierDetection", "subsets", "template", "data", "kind", "items"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-10, 70_000) | st.floats() | WORDS | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=3), inner, max_size=5)
)
KINDS = st.sampled_from([*GROUPS, "Service", "Secret", "Namespace", "List", "Nonsense"])


@st.composite
def resources(draw: st.DrawFn) -> dict[str, Any]:
    """Something of the shape of a resource, rarely a valid one."""
    kind = draw(KINDS)
    metadata = {"name": draw(st.sampled_from(["a", "b"])), "namespace": draw(st.sampled_from(["x", "y"]))}
    found: dict[str, Any] = {
        "apiVersion": GROUPS.get(kind, "v1"),
        "kind": kind,
        "metadata": metadata,
        "spec": draw(VALUES),
    }
    if draw(st.integers(0, 9)) == 0:
        found[draw(st.sampled_from(["metadata", "kind", "apiVersion", "items"]))] = draw(VALUES)
    return found


@st.composite
def valid_resources(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["VirtualService", "ServiceEntry", "PeerAuthentication"]))
    host = draw(st.sampled_from(["a", "b"]))
    specs: dict[str, Any] = {
        "VirtualService": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]},
        "ServiceEntry": {"hosts": [host], "resolution": "DNS"},
        "PeerAuthentication": {"mtls": {"mode": draw(st.sampled_from(["STRICT", "PERMISSIVE", "LAX"]))}},
    }
    metadata = {"name": draw(st.sampled_from(["a", "b", "c"])), "namespace": draw(st.sampled_from(["x", "y"]))}
    return {"apiVersion": GROUPS[kind], "kind": kind, "metadata": metadata, "spec": specs[kind]}


def _files(documents: list[list[dict[str, Any]]]) -> list[SourceFile]:
    return [
        SourceFile(name=f"{number}.yaml", text="\n---\n".join(json.dumps(found) for found in file))
        for number, file in enumerate(documents)
    ]


@QUICK
@given(st.text(max_size=300) | st.text(st.sampled_from("a:-{}[]&*!|>'\"%#\n\t ,?<~0"), max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(UnreadableError):
        json.dumps(read_value(text))
    loaded = load([SourceFile(name="a.yaml", text=text)], mesh_config=SourceFile(name="m.yaml", text=text))
    assert all(found.message and found.position.line for found in loaded.diagnostics)
    load_mesh_file(text)


@QUICK
@given(st.lists(st.lists(resources() | VALUES.map(lambda value: {"spec": value}), max_size=3), max_size=3))
def test_load_never_raises_and_every_error_has_a_place(documents: list[list[dict[str, Any]]]) -> None:
    files = _files(documents)
    loaded = load(files)
    for found in loaded.diagnostics:
        assert found.position.file
        assert found.position.line >= 1
    hash(loaded.config)
    again = load(files, loaded.last_good)
    assert again.config == loaded.config
    assert LastGood.from_bytes(loaded.last_good.to_bytes()) == loaded.last_good


def _nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in _nodes(item, (*path, key)))]


@st.composite
def nearly_valid_resources(draw: st.DrawFn) -> dict[str, Any]:
    """A rich, valid resource in which one thing was changed, added or taken away."""
    kind = draw(st.sampled_from(sorted(RICH)))
    found = {"apiVersion": GROUPS.get(kind, "v1"), "kind": kind, "metadata": {"name": "a"}} | deepcopy(RICH[kind])
    path = draw(st.sampled_from(_nodes(found)[1:]))
    parent: Any = found
    for step in path[:-1]:
        parent = parent[step]
    change = draw(st.sampled_from(["replace", "leaf", "remove", "rename", "empty"]))
    if change == "replace":
        parent[path[-1]] = draw(VALUES)
    elif change == "leaf":
        parent[path[-1]] = draw(LEAVES)
    elif change == "empty":
        parent[path[-1]] = type(parent[path[-1]])()
    elif isinstance(parent, dict) and change == "rename":
        parent[draw(FIELDS)] = parent.pop(path[-1])
    else:
        del parent[path[-1]]
    return found


@QUICK
@given(nearly_valid_resources())
def test_a_resource_with_one_mistake_is_taken_or_refused(found: dict[str, Any]) -> None:
    loaded = load(_files([[found]]))
    assert all(problem.position.line for problem in loaded.diagnostics)
    hash(loaded.config)


def test_the_rich_resources_are_valid() -> None:
    for kind, rest in RICH.items():
        loaded = load(
            _files([[{"apiVersion": GROUPS.get(kind, "v1"), "kind": kind, "metadata": {"name": "a"}} | rest]])
        )
        assert loaded.diagnostics == ()


@QUICK
@given(VALUES)
def test_any_value_as_mesh_config_or_mesh_file(value: Any) -> None:
    text = json.dumps(value)
    load([], mesh_config=SourceFile(name="m.yaml", text=text))
    load(
        [], mesh_config=SourceFile(name="m.yaml", text=json.dumps({"meshConfig": value})), mesh_config_key="meshConfig"
    )
    load_mesh_file(text)
    load_mesh_file(json.dumps({"version": 1, "workloads": value, "gateways": value, "meshConfig": value}))


@QUICK
@given(st.lists(st.lists(valid_resources(), max_size=3), max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_files_changes_nothing(documents: list[list[dict[str, Any]]], random: Any) -> None:
    files = _files(documents)
    shuffled = list(files)
    random.shuffle(shuffled)
    one, other = load(files), load(shuffled)
    assert (one.config, one.diagnostics, one.last_good) == (other.config, other.diagnostics, other.last_good)
    assert one.last_good.to_bytes() == other.last_good.to_bytes()


@QUICK
@given(st.lists(valid_resources(), max_size=6, unique_by=lambda one: (one["kind"], str(one["metadata"]))), st.data())
def test_how_resources_are_spread_over_files_changes_nothing(found: list[dict[str, Any]], data: st.DataObject) -> None:
    places = [data.draw(st.integers(0, 2)) for _ in found]
    spread = [[one for one, place in zip(found, places, strict=True) if place == number] for number in range(3)]
    assert load(_files(spread)).config == load(_files([found])).config


@QUICK
@given(st.lists(st.lists(st.lists(valid_resources() | resources(), max_size=3), max_size=3), min_size=2, max_size=3))
def test_memory_of_earlier_loads_makes_no_difference(history: list[list[list[dict[str, Any]]]]) -> None:
    memo = Memo()
    last_good = LastGood()
    for documents in history:
        files = _files(documents)
        remembered, anew = load(files, last_good, memo=memo), load(files, last_good, memo=Memo(enabled=False))
        memo.next_generation()
        assert (remembered.config, remembered.diagnostics) == (anew.config, anew.diagnostics)
        assert remembered.last_good == anew.last_good
        last_good = remembered.last_good
