"""The control plane's work without its sockets: from files to the bytes that every proxy is sent.

Run as a program it measures one shape, so that each measurement has a process of its own and its memory is its own.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from benchmarks.shape import Shape, State, proxies_of, state_of, with_endpoint, with_route
from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, Resources
from gossamer.model.proxy import Proxy
from gossamer.plane.pipeline import Pipeline
from gossamer.plane.tuning import settle_heap
from gossamer.xds.batches import Batches
from gossamer.xds.messages import Request, Response
from gossamer.xds.stream import Stream

ROUNDS = 5
Row = dict[str, float]
_NAMED_BY = {CLUSTER: (ENDPOINT,), LISTENER: (ROUTE, EXTENSION)}


class Client:
    """One proxy: asks for everything in Envoy's order and accepts whatever comes."""

    def __init__(self, batches: Batches) -> None:
        self._stream = Stream(batches, drain_s=5.0)
        self._known: dict[str, set[str]] = {ENDPOINT: set(), ROUTE: set(), EXTENSION: set()}
        self.messages = self.sent = 0

    def connect(self, resources: Resources, now: float) -> None:
        self._stream.offer(resources, now)
        for type_url in (CLUSTER, LISTENER):
            self._take(self._stream.receive(Request(type_url=type_url), now), now)

    def offer(self, resources: Resources, now: float) -> None:
        self._take(self._stream.offer(resources, now), now)

    def _take(self, responses: Iterable[Response], now: float) -> None:
        waiting = list(responses)
        while waiting:
            response = waiting.pop(0)
            self.messages += 1
            self.sent += len(response.encode())
            waiting += self._stream.receive(Request(type_url=response.type_url, nonce=response.nonce), now)
            for type_url in _NAMED_BY.get(response.type_url, ()):
                waiting += self._ask(type_url, response, now)

    def _ask(self, type_url: str, response: Response, now: float) -> Iterable[Response]:
        named = {
            reference.name
            for item in response.resources
            for reference in item.references or ()
            if reference.type_url == type_url
        }
        fresh = named - self._known[type_url]
        self._known[type_url] |= fresh
        return self._stream.receive(Request(type_url=type_url, subscribe=tuple(sorted(fresh))), now) if fresh else ()


@dataclass(slots=True)
class _Watch:
    """CPU milliseconds since the last look."""

    last: float

    def lap(self) -> float:
        now = time.process_time()
        spent, self.last = now - self.last, now
        return spent * 1000


class Fleet:
    """All proxies of a shape on one pipeline."""

    def __init__(self, proxies: list[Proxy]) -> None:
        self._proxies = proxies
        self._pipeline = Pipeline(mesh_config=None, last_good=None)
        batches = Batches()
        self._clients = [Client(batches) for _ in proxies]
        self._connected = False

    def push(self, state: State) -> Row:
        """Build, compile for every proxy and tell all of them; the figures of that."""
        for client in self._clients:
            client.messages = client.sent = 0
        watch = _Watch(time.process_time())
        self._pipeline.build(state.files, state.registrations)
        build = watch.lap()
        told = [self._pipeline.resources(proxy) for proxy in self._proxies]
        self._pipeline.settle()
        compiled = watch.lap()
        for client, resources in zip(self._clients, told, strict=True):
            if resources is None:
                raise RuntimeError(f"nothing to give: {self._pipeline.diagnostics[:3]}")
            (client.offer if self._connected else client.connect)(resources, 0.0)
        tell = watch.lap()
        self._connected = True
        return {
            "build_ms": build,
            "compile_ms": compiled,
            "tell_ms": tell,
            "cpu_ms": build + compiled + tell,
            "messages": sum(client.messages for client in self._clients),
            "sent_mb": sum(client.sent for client in self._clients) / 1e6,
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def measure(shape: Shape) -> dict[str, Row]:
    """Figures of one shape by phase, in this process; those of changes are medians."""
    state = state_of(shape)
    fleet = Fleet(proxies_of(shape))
    rows = {"cold": fleet.push(state)}
    settle_heap()
    for number in range(1, ROUNDS + 1):
        state = with_endpoint(state, shape, number)
        rows[f"endpoint {number}"] = fleet.push(state)
        state = with_route(state, shape, number)
        rows[f"route {number}"] = fleet.push(state)
        rows[f"nothing {number}"] = fleet.push(state)
    medians = {
        phase: [rows[f"{phase} {n}"] for n in range(1, ROUNDS + 1)] for phase in ("endpoint", "route", "nothing")
    }
    return {"cold": rows["cold"], **{phase: _median(found) for phase, found in medians.items()}}


def measure_apart(shape: Shape) -> dict[str, Row]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.pipeline", json.dumps(asdict(shape))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    rows: dict[str, Row] = json.loads(done.stdout)
    return rows


def _median(rows: list[Row]) -> Row:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


if __name__ == "__main__":
    print(json.dumps(measure(Shape(**json.loads(sys.argv[1])))))
