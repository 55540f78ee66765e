"""What real Envoys do with a request, what `gossamer simulate` says they would, and what Istio's documentation says
they should: for each case of `cases/`, all three are the same.

A case is a name, a configuration and calls; a call says where it comes from (`caller`, a workload, or a port of the
gateway), what it asks, and how it must end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from gossamer.cli.asking import People, ask
from gossamer.cli.question import Question, parse_url
from gossamer.cli.simulate_view import Answer
from tests.compile.certificates import Issuer
from tests.e2e.agreement import explained, originated
from tests.e2e.agreement.asking import SAY
from tests.e2e.agreement.prediction import End, agrees, end_of, ends_of, received
from tests.e2e.agreement.world import CALLER, GATEWAY, World, running

CASES: list[dict[str, Any]] = [
    {"family": file.stem, **case}
    for file in sorted(Path(__file__).parent.glob("cases/*.yaml"))
    for case in yaml.safe_load(file.read_text(encoding="utf-8"))
]
SETTLE_S = 5.0
"""After a proxy has acknowledged a listener, its old filter chains may still take connections; and patches are tried on
an Envoy before any proxy is told them."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running() as found:
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['family']}: {case['name']}")
def test_agreement(world: World, case: dict[str, Any]) -> None:
    cast = world.apply(case["config"], broken=case.get("broken", False))
    for call in case["calls"]:
        predicted = ends_of(ask(cast, _question(world, call), _people(call)).call)
        _settled(partial(_check, world, call, predicted))


def test_there_are_enough() -> None:
    assert len(CASES) >= 60
    names = [(case["family"], case["name"]) for case in CASES]
    assert len(set(names)) == len(names)


def test_what_explains_a_denial_is_what_the_access_log_names(world: World) -> None:
    """The mesh that runs explains itself as its files do, and as its Envoys do."""
    written, running = world.apply(explained.CONFIG), world.running()
    for method, path, status, policy in explained.CALLS:
        question = Question(url=parse_url(f"http://b.other{path}"), method=method)
        answers = [ask(cast, question, People(caller=CALLER)) for cast in (written, running)]
        decided = {_decided(answer) for answer in answers}
        assert decided == {(policy, True)}, (path, decided)
        _settled(partial(_has_status, world, method, path, status))
        if policy:
            line = f'"{method} {path} HTTP'
            _settled(partial(_logged, world, line, f"rbac_access_denied_matched_policy[{policy}]"))


def test_an_egress_gateway_shows_the_certificate_of_a_secret_and_of_its_successor(world: World, tmp_path: Path) -> None:
    """Mutual TLS begun for a workload; no request fails while the Secret is changed."""
    issuer = Issuer()
    with originated.strict_server(issuer, tmp_path) as port:
        world.apply(originated.with_client(issuer, port, "first.test"))
        _settled(partial(_seen_as, world, "first.test"))
        world.write(originated.with_client(issuer, port, "second.test"))
        seen: set[str] = set()
        deadline = time.monotonic() + SETTLE_S
        while "second.test" not in seen:
            assert time.monotonic() < deadline, seen
            seen.add(_peer_of(world))
        assert seen <= {"first.test", "second.test"}
        assert {_peer_of(world) for _ in range(5)} == {"second.test"}
        other = Issuer("a stranger")
        world.write(originated.with_client(other, port, "third.test"))
        _settled(partial(_seen_as, world, "503"))


def _peer_of(world: World) -> str:
    reply = world.from_caller(url=originated.URL)
    return str(reply["headers"].get("x-peer", reply["status"]))


def _seen_as(world: World, name: str) -> None:
    assert _peer_of(world) == name


def _decided(answer: Answer) -> tuple[str, bool]:
    """The policy that turned a request away, as Envoy's log names it, and whether the dry run would have."""
    outcome = answer.call.hops[0].outcome
    assert outcome is not None
    by = outcome.decided_by
    tried = any(decision.shadow and not decision.allowed for decision in outcome.policies)
    return ("" if by is None else by.policy or "none"), tried


def _has_status(world: World, method: str, path: str, status: int) -> None:
    assert world.from_caller(url=f"http://b.other{path}", method=method)["status"] == status


def _logged(world: World, request: str, words: str) -> None:
    lines = [line for line in world.log("other/b-v1").splitlines() if request in line]
    assert any(words in line for line in lines), lines


def _question(world: World, call: dict[str, Any]) -> Question:
    scheme, _, rest = world.filled(call["url"]).partition("://")
    asked = Question(
        url=parse_url(f"{_CARRIED_BY.get(scheme, scheme)}://{rest}"),
        method=call.get("method", "GET"),
        headers=tuple(call.get("headers", {}).items()),
        http2=call.get("http2", False),
    )
    match scheme:
        case "ws":
            return replace(asked, headers=(("connection", "upgrade"), ("upgrade", "websocket")))
        case "grpc":
            return replace(asked, url=parse_url(f"http://{rest}{SAY}"), method="POST", http2=True)
        case _:
            return asked


_CARRIED_BY = {"ws": "http", "grpc": "http", "greeting": "tcp"}
"""What the simulator is asked about in place of a scheme."""


def _people(call: dict[str, Any]) -> People:
    if call["from"] == "caller":
        return People(caller=CALLER)
    return People(gateway=GATEWAY, client="127.0.0.1")


def _settled(check: Callable[[], None]) -> None:
    """Check again and again until it holds, for as long as it may take."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        try:
            check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _check(world: World, call: dict[str, Any], predicted: frozenset[End]) -> None:
    reply = _reply(world, call)
    assert agrees(end_of(reply), predicted), (call, reply, predicted)
    _as_documented(call["expect"], reply, predicted)


def _reply(world: World, call: dict[str, Any]) -> dict[str, Any]:
    asked = {key: call[key] for key in ("method", "headers", "http2") if key in call}
    url = world.filled(call["url"])
    if call["from"] == "caller":
        return world.from_caller(url=url, **asked)
    return world.from_outside(url, int(call["from"]), **asked)


def _as_documented(expected: dict[str, Any], reply: dict[str, Any], predicted: frozenset[End]) -> None:
    """Both the reply and the prediction are what the case says."""
    ends = [end_of(reply), *predicted]
    by = expected.get("by")
    for end in ends:
        assert end.status == expected.get("status", 200), (end, reply)
        assert by is None or end.by in (by if isinstance(by, list) else [by]), (end, reply)
        for name in ("path", "authority", "location"):
            known = getattr(end, name) or name == "location"
            assert name not in expected or not known or getattr(end, name) == expected[name], (end, reply)
    seen = received(reply)
    for name, value in expected.get("received", {}).items():
        assert seen.get(name) == value, (name, seen)
    for name, value in expected.get("headers", {}).items():
        assert reply["headers"].get(name) == value, (name, reply)
