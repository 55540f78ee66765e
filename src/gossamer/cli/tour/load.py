"""Requests as any client sends them, counted one by one: over keep-alive connections, at a constant rate or a number.

Invariant: no request is ever lost from the count. Whatever comes of it, refused connections and silence included, is
one `Sample`, and nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpcore

TIMEOUT_S = 10.0
MOST_SAMPLES = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of one request: `status` is 0 when no answer came, and `problem` then says why in a few words.

    Header names are in lower case; `at` is when it was sent, by the monotonic clock, `elapsed` what it took (seconds).
    """

    at: float
    elapsed: float
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    problem: str = ""


class Client:
    """One keep-alive HTTP/1.1 connection to `base`; another is opened when the far side has closed it."""

    def __init__(self, base: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._base = base.rstrip("/")
        self._origin = httpcore.URL(self._base).origin
        self._timeout_s = timeout_s
        self._connection: httpcore.AsyncHTTPConnection | None = None
        self.opened = 0
        """Connections tried so far; 1 means that every request went over the first."""

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """The answer to `GET path`. Never raises for what the far side or the network does."""
        began = time.monotonic()
        problem = ""
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connected()
                response = await connection.request("GET", self._base + path, headers=[*(headers or {}).items()])
            return Reply(
                at=began,
                elapsed=time.monotonic() - began,
                status=response.status,
                headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers},
                body=response.content,
            )
        except TimeoutError:
            problem = f"no answer within {self._timeout_s:g} s"
        except httpcore.ConnectError:
            problem = "connection refused"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ConnectionNotAvailable):
            problem = "connection broken"
        await self.aclose()
        return Reply(at=began, elapsed=time.monotonic() - began, problem=problem)

    async def _connected(self) -> httpcore.AsyncHTTPConnection:
        known = self._connection
        if known is not None:
            if known.is_available() and not known.has_expired():
                return known
            await self.aclose()
        self.opened += 1
        self._connection = httpcore.AsyncHTTPConnection(self._origin)
        return self._connection

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        known, self._connection = self._connection, None
        if known is not None:
            await known.aclose()


@asynccontextmanager
async def open_client(base: str, *, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Client]:
    """A client whose connection is closed at the end."""
    client = Client(base, timeout_s=timeout_s)
    try:
        yield client
    finally:
        await client.aclose()


def no_label(_: Reply) -> str:
    """For requests that are counted by their status alone."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What is sent again and again: `connections` at a time, at most `rate` a second in all (0: as fast as answers
    come). `label` sorts the answers (by version, say)."""

    base: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    rate: float = 0.0
    connections: int = 4
    timeout_s: float = TIMEOUT_S
    label: Callable[[Reply], str] = no_label


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request of a load, without its body. `at` and `elapsed` as in `Reply`."""

    at: float
    elapsed: float
    status: int
    problem: str = ""
    label: str = ""

    @property
    def failed(self) -> bool:
        """Whether its sender would complain: no answer, or neither a 2xx nor a 3xx."""
        return self.status // 100 not in (2, 3)

    @property
    def ended(self) -> float:
        return self.at + self.elapsed


class Record:
    """The samples of a load, in the order in which they ended; it grows while the load runs."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._samples = list(samples)

    def add(self, sample: Sample) -> None:
        self._samples.append(sample)

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    @property
    def failed(self) -> list[Sample]:
        return [sample for sample in self._samples if sample.failed]

    def statuses(self) -> Counter[str]:
        """How often each status or problem came."""
        return Counter(str(sample.status) if sample.status else sample.problem for sample in self._samples)

    def problems(self) -> Counter[str]:
        """How often each status or problem came, of the requests that failed."""
        return Record(self.failed).statuses()

    def labels(self) -> Counter[str]:
        """How often each label came, of the requests that did not fail."""
        return Counter(sample.label for sample in self._samples if not sample.failed)

    def between(self, start: float, end: float) -> Record:
        """The samples sent from `start` on and before `end` (monotonic clock)."""
        return Record(sample for sample in self._samples if start <= sample.at < end)

    def quantile_s(self, share: float) -> float:
        """The time in seconds within which `share` of the requests that did not fail were answered; 0 of none."""
        times = sorted(sample.elapsed for sample in self._samples if not sample.failed)
        return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0


async def send_requests(requests: Requests, count: int, *, told: Callable[[int], None] | None = None) -> Record:
    """Send `count` requests and return what came of them; `told` hears how many have ended."""
    record = Record()
    left = iter(range(count))

    async def one_connection(number: int) -> None:
        async with open_client(requests.base, timeout_s=requests.timeout_s) as client:
            pace = _Pace(requests, number)
            for _ in left:
                await pace.turn()
                record.add(await _sample(client, requests))
                if told:
                    told(len(record))

    async with asyncio.TaskGroup() as tasks:
        for number in range(min(requests.connections, count)):
            tasks.create_task(one_connection(number))
    return record


@asynccontextmanager
async def constant_load(requests: Requests) -> AsyncIterator[Record]:
    """Send requests while the context lasts. What is under way at its end is awaited, so that every request is counted,
    unless the context ends by an exception."""
    record = Record()
    ended = asyncio.Event()

    async def one_connection(number: int) -> None:
        async with open_client(requests.base, timeout_s=requests.timeout_s) as client:
            pace = _Pace(requests, number)
            while len(record) < MOST_SAMPLES:
                await pace.turn()
                if ended.is_set():
                    return
                record.add(await _sample(client, requests))
                await asyncio.sleep(0)  # an answer that is no wait must not shut the others out

    async def all_connections() -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(requests.connections):
                tasks.create_task(one_connection(number))

    load = asyncio.create_task(all_connections())  # not a group around the yield: it would wrap what is raised there
    try:
        yield record
        ended.set()
        await load
    finally:
        load.cancel()
        await asyncio.wait([load])


async def _sample(client: Client, requests: Requests) -> Sample:
    reply = await client.get(requests.path, requests.headers)
    label = requests.label(reply) if reply.status else ""
    return Sample(at=reply.at, elapsed=reply.elapsed, status=reply.status, problem=reply.problem, label=label)


class _Pace:
    """When one of several connections sends next. Who is late sends at once and does not catch up in a burst."""

    def __init__(self, requests: Requests, number: int) -> None:
        self._interval = requests.connections / requests.rate if requests.rate else 0.0
        self._next = time.monotonic() + (number / requests.rate if requests.rate else 0.0)

    async def turn(self) -> None:
        if not self._interval:
            return
        now = time.monotonic()
        if self._next > now:
            await asyncio.sleep(self._next - now)
        self._next = max(self._next, now) + self._interval
