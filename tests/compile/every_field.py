"""What changing one field changes: the rows of tests/compile/fields, and what proxies are told with and without.

A file is about one kind: `spec` is where its rows start, `in` their world (worlds.yaml: other documents, and who is
asked), and `rows` say by path what is written there: `to`, instead of nothing or of `from`. `given` is laid over the
spec beforehand, `beside` adds documents, `mesh` is a MeshConfig. `same` holds messages that stand in several places:
whatever is said of the first is tried in each of the others too.

Invariant: both documents of a row are free of errors; they differ in nothing but the field.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from gossamer.api.config import Config
from gossamer.api.kinds import KINDS, Kind
from gossamer.api.load import SourceFile, load
from gossamer.api.mesh_config import MeshConfig
from gossamer.api.resource import Resource
from gossamer.api.rules.kubernetes import passes
from gossamer.cli.offline import Fleet, build_fleet
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import EXTENSION, Resources
from gossamer.model.extensions import module_key
from gossamer.model.proxy import Capture, Proxy, ProxyType
from gossamer.model.service import Health, Workload
from gossamer.model.tokens import key_sources
from gossamer.node.groups import grouped
from gossamer.node.workload import WorkloadSpec
from gossamer.plane.group_service import describe_group
from gossamer.rpc import gossamer_pb2 as rpc

FOLDER: Final = Path(__file__).parent / "fields"
Json = dict[str, Any]
MESH: Final = Kind(
    name="MeshConfig",
    group="",
    versions=("",),
    attribute="mesh",
    spec=MeshConfig,
    check=passes,
    body="",
    needs_spec=False,
)
"""What is no kind of document, but a file of its own."""


def _sidecar(namespace: str, name: str, address: str, **more: Any) -> Proxy:
    return Proxy(type=ProxyType.SIDECAR, namespace=namespace, name=name, addresses=(address,), **more)


PROXIES: Final = {
    "client": _sidecar(
        "default",
        "client",
        "10.1.0.9",
        labels=FrozenMap({"app": "client"}),
        locality="r1/z1/s1",
        node="node-1",
        capture=Capture(dns=True),
    ),
    "server": _sidecar(
        "default", "reviews-1", "10.1.0.1", labels=FrozenMap({"app": "reviews", "version": "v1"}), service_account="rev"
    ),
    "stranger": _sidecar("other", "stranger", "10.1.0.8", labels=FrozenMap({"app": "stranger"})),
    "gateway": Proxy(
        type=ProxyType.ROUTER,
        namespace="istio-system",
        name="gateway",
        addresses=("2.2.2.2",),
        labels=FrozenMap({"istio": "ingressgateway"}),
    ),
    "attached": Proxy(
        type=ProxyType.ROUTER,
        namespace="default",
        name="edge",
        addresses=("2.2.2.3",),
        labels=FrozenMap(
            {"gateway.networking.k8s.io/gateway-name": "edge", "gateway.networking.k8s.io/gateway-class-name": "istio"}
        ),
    ),
    "subject": Proxy(
        type=ProxyType.ROUTER,
        namespace="default",
        name="edge",
        addresses=("2.2.2.4",),
        labels=FrozenMap({"gateway.networking.k8s.io/gateway-name": "subject"}),
    ),
    "member": _sidecar("default", "member", "10.1.0.7", group="subject"),
}
"""Who can be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Documents beside the one in question, who runs, and who is asked."""

    documents: str
    asked: tuple[str, ...]
    registrations: tuple[Workload, ...] = ()
    slots: bool = False
    """Whether only what is delivered into policy slots counts: revisions of chains differ for any edit of a policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One change of one field."""

    kind: Kind
    path: str
    world: str
    without: Json = field(repr=False)
    changed: Json = field(repr=False)
    beside: str = ""
    mesh: str = ""

    @property
    def label(self) -> str:
        return f"{self.kind.identity} {self.path}"


@cache
def worlds() -> dict[str, World]:
    """By name."""
    return {
        name: World(
            documents=given["documents"],
            asked=tuple(given["asked"]),
            registrations=tuple(_workload(one) for one in given.get("registrations", ())),
            slots=given.get("slots", False),
        )
        for name, given in read("worlds.yaml").items()
    }


def _workload(given: Json) -> Workload:
    plain: Json = {name: FrozenMap(value) if isinstance(value, dict) else value for name, value in given.items()}
    plain["health"] = Health(plain.get("health", "HEALTHY"))
    return Workload(**{"namespace": "default", "tls": True, **plain})


@cache
def rows() -> tuple[Row, ...]:
    """Every row of every file."""
    files = (path for path in sorted(FOLDER.glob("*.yaml")) if path.stem not in ("worlds", "excused"))
    return tuple(row for path in files for row in _rows_of(read(path.name)))


def read(name: str) -> Json:
    """One of the files."""
    found: Json = yaml.load((FOLDER / name).read_text(), yaml.CSafeLoader)
    return found


def _rows_of(file: Json) -> Iterator[Row]:
    kind = MESH if file["kind"] == MESH.name else KINDS[(file["group"], file["kind"])]
    start = file.get("spec", {})
    for path, row in file["rows"].items():
        for given in row if isinstance(row, list) else [row]:
            yield _row(kind, file["in"], path, start, given)
    for first, others in file.get("same", {}).items():
        for other in others:
            place, more = (other, {}) if isinstance(other, str) else next(iter(other.items()))
            yield from _moved(kind, file, first, place, more)


def _row(kind: Kind, world: str, path: str, start: Json, row: Json) -> Row:
    spec = merged(start, row.get("given", {}))
    for gone in row.get("without", ()):
        _put(spec, gone, None)
    without, changed = copy.deepcopy(spec), copy.deepcopy(spec)
    if "from" in row:
        _put(without, path, row["from"])
    _put(changed, path, row["to"])
    return Row(
        kind=kind,
        path=path,
        world=row.get("in", world),
        without=without,
        changed=changed,
        beside=row.get("beside", ""),
        mesh=row.get("mesh", ""),
    )


def _moved(kind: Kind, file: Json, first: str, place: str, more: Json) -> Iterator[Row]:
    """The rows of one message, in another place that holds it. `more`: its own `given` and world, and
    which rows it is without (`skip`) or has (`only`)."""
    for path, rows_of_path in file["rows"].items():
        rest = path.removeprefix(first)
        if rest == path or rest in more.get("skip", ()) or rest not in more.get("only", (rest,)):
            continue
        for row in rows_of_path if isinstance(rows_of_path, list) else [rows_of_path]:
            given = copy.deepcopy(row.get("given", {}))
            inner = _take(given, first)
            moved: Json = {}
            if inner is not None:
                _put(moved, place, inner)
            given = merged({} if more.get("bare") else given, merged(more.get("given", {}), moved))
            besides: Json = {name: more[name] for name in ("in", "mesh") if name in more}
            besides["beside"] = "\n---\n".join(filter(None, (row.get("beside"), more.get("beside"))))
            yield _row(kind, file["in"], place + rest, file.get("spec", {}), {**row, "given": given, **besides})


def merged(below: Any, above: Any) -> Any:
    """JSON laid over JSON: mappings key by key, lists item by item."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {name: merged(below.get(name), above.get(name, below.get(name))) for name in {**below, **above}}
    if isinstance(below, list) and isinstance(above, list):
        longest = max(len(below), len(above))
        return [
            merged(below[i] if i < len(below) else None, above[i] if i < len(above) else below[i])
            for i in range(longest)
        ]
    return copy.deepcopy(above)


def _steps(path: str) -> list[str | int]:
    return [int(step) if step.isdigit() else step for step in re.sub(r"\[(\d*)\]", r".\1", _first(path)).split(".")]


def _first(path: str) -> str:
    return path.replace("[]", "[0]")


def _put(into: Json, path: str, value: Any) -> None:
    """Write a value at a path; what leads there is made. None takes it away."""
    *way, last = _steps(path)
    here: Any = into
    for step, following in zip(way, [*way, last][1:], strict=True):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(step, int):
            here += [{} for _ in range(step + 1 - len(here))]
            here[step] = here[step] or empty
        elif not here.get(step):
            here[step] = empty
        here = here[step]
    if isinstance(last, int):
        here += [None for _ in range(last + 1 - len(here))]
        here[last] = copy.deepcopy(value)
    elif value is None:
        here.pop(last, None)
    else:
        here[last] = copy.deepcopy(value)


def _take(given: Any, path: str) -> Any:
    """What is at a path, taken away."""
    *way, last = _steps(path)
    for step in way:
        try:
            given = given[step]
        except (KeyError, IndexError):
            return None
    if isinstance(given, dict):
        return given.pop(last, None)
    return given.pop(last) if isinstance(last, int) and last < len(given) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What everyone who was asked is told: by proxy its resources; and what else comes of the configuration."""

    resources: dict[str, Resources]
    besides: tuple[Any, ...]
    slots: bool

    def shown(self) -> object:
        """What is compared."""
        if self.slots:
            return self.besides, {
                name: sorted((one.name, one.version) for one in found.all_of(EXTENSION))
                for name, found in self.resources.items()
            }
        return self.resources, self.besides


class Auditor:
    """Compiles rows; what they have in common is compiled once."""

    def __init__(self) -> None:
        self._memo = Memo()
        self._known: dict[tuple[str, ...], Answers | str] = {}

    def answers(self, row: Row, spec: Json) -> Answers | str:
        """What comes of a row's world with its document as `spec`; a text if it is not valid."""
        text = json.dumps(spec if row.kind is MESH else _document(row.kind, spec))
        key = (row.world, row.beside, row.mesh, text)
        if key not in self._known:
            self._known[key] = self._answers(row, text)
            self._memo.next_generation()
        return self._known[key]

    def _answers(self, row: Row, text: str) -> Answers | str:
        world = worlds()[row.world]
        files = [
            SourceFile(name=f"{row.world}.yaml", text=world.documents),
            SourceFile(name="subject.yaml", text="" if row.kind is MESH else text),
            SourceFile(name="beside.yaml", text=row.beside),
        ]
        settings = text if row.kind is MESH else row.mesh
        mesh = SourceFile(name="mesh.yaml", text=settings) if settings else None
        loaded = load(files, mesh_config=mesh, memo=self._memo)
        problems = [str(found.message) + f" ({found.path})" for found in loaded.diagnostics if found.is_error]
        if problems:
            return "; ".join(problems)
        fleet = build_fleet(loaded.config, self._memo, world.registrations)
        asked = {name: PROXIES[name] for name in world.asked}
        return Answers(
            resources={name: fleet.resources(proxy) for name, proxy in asked.items()},
            besides=(
                *(fleet.mesh.proxies.for_proxy(proxy) for proxy in asked.values()),
                key_sources(loaded.config.request_authentications),
                [module_key(one) for one in _extensions(loaded.config)],
                *(_started(fleet) if "member" in asked else ()),
            ),
            slots=world.slots,
        )


def _extensions(config: Config) -> tuple[Resource[Any], ...]:
    return (*config.wasm_plugins, *config.traffic_extensions)


def _started(fleet: Fleet) -> tuple[WorkloadSpec, ...]:
    """How an agent starts a workload of the group."""
    request = rpc.DescribeGroupRequest(group=rpc.WorkloadKey(namespace="default", name="subject"))
    answer = describe_group(fleet.mesh.groups, lambda _namespace, _account: "", request)
    if not answer.document:
        return ()
    return (grouped(WorkloadSpec(name="member", service_account="", group="subject"), answer.document),)


def _document(kind: Kind, spec: Json) -> Json:
    """The document in question. Keys of `spec` that begin with `metadata` go to its metadata."""
    metadata: Json = {"name": "subject", **({"namespace": "default"} if kind.namespaced else {})}
    body = {name: value for name, value in spec.items() if name != "METADATA"}
    metadata |= spec.get("METADATA", {})
    version = f"{kind.group}/{kind.versions[0]}" if kind.group else kind.versions[0]
    document = {"apiVersion": version, "kind": kind.name, "metadata": metadata}
    return {**document, "spec": body} if kind.body else {**document, **body}
