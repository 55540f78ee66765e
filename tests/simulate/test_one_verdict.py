"""Property: whatever the policies and whatever the call, the policy model, the simulator on what the policies compile
to, and a real Envoy say the same: whether it passes, and what a dry run would have said."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.ca.folder import open_authority
from gossamer.ca.issue import issue
from gossamer.ca.spiffe import workload_id
from gossamer.compile.policies.ports import LocalPorts
from gossamer.core.frozen import FrozenMap
from gossamer.model.policy import WorkloadPolicies
from gossamer.simulate.outcome import Outcome, PolicyDecision
from gossamer.simulate.request import Address, Arrival
from gossamer.simulate.simulator import Simulator
from tests.compile.random_policies import OWN
from tests.simulate import build, real_envoy
from tests.simulate.build import Json
from tests.simulate.verdicts import (
    GUARDED,
    TUNNELLED,
    Asked,
    OneVerdict,
    Said,
    asking_tls,
    chains_of,
    filters_of,
    http_of,
    of_model,
    of_outcome,
    request_of,
)

SETS, CALLS = 32, 24
"""Of the sample on a real Envoy: policies, and calls for each, HTTP's and TCP's."""
PRINCIPALS = (*(f"cluster.local/ns/{ns}/sa/{sa}" for ns in ("web", "foo") for sa in "ab"), "td1/ns/foo/sa/a", "")
LOG_FIELDS = {
    "id": "%REQ(X-ID)%",
    "why": "%RESPONSE_CODE_DETAILS%",
    "deny": "%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_deny_shadow_engine_result)%",
    "allow": "%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_allow_shadow_engine_result)%",
}
TRIED = {"denied": True, "allowed": False}


# ---- thousands, between the model and the simulator


def _serving(policies: WorkloadPolicies) -> tuple[Simulator, Simulator]:
    """The simulator on captured HTTP, and on captured TCP."""
    http, tcp = filters_of(policies, LocalPorts())
    tls = asking_tls("", "", "")
    found = []
    for filters in ([build.manager(_routes(), http)], [*tcp, build.tcp("echo")]):
        chains = chains_of(filters, tls)
        capture = build.listener(15006, chains, "virtualInbound", "0.0.0.0", use_original_dst=True, **_inspecting())
        resources = build.resources(listeners=[capture], clusters=[build.static("echo", build.ONE)])
        found.append(Simulator(resources))
    return found[0], found[1]


def _routes() -> Json:
    return build.table(build.host("all", ["*"], [build.direct("in")]))


def _inspecting() -> Json:
    return {"listener_filters": [build.inspector("tls")]}


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(min_value=0, max_value=2**40))
def test_the_simulator_says_what_the_policies_say(seed: int) -> None:
    maker = OneVerdict(seed)
    policies = maker.workload()
    simulators = _serving(policies)
    for number in range(42):
        asked = maker.asked(http=number % 4 > 0)
        destination = Address(ip=OWN, port=asked.call.destination_port)
        outcome = simulators[asked.call.http is None].simulate(request_of(asked, Arrival.INBOUND, destination))
        assert of_outcome(outcome) == of_model(policies, asked), (asked, policies)


# ---- hundreds, on a real Envoy too


class Sampled(OneVerdict):
    """Calls that can be made on one machine."""

    blocks = ("127.0.0.0/31", "127.0.0.2", "127.0.0.0/8", "10.0.0.0/8")

    def asked(self, *, http: bool) -> Asked:
        asked, one = super().asked(http=http), self.random.choice
        principal = one(PRINCIPALS)
        call = replace(
            asked.call,
            source_ip=one(("127.0.0.1", "127.0.0.2")),
            remote_ip=one(("", "10.0.0.7", "192.168.1.1")) if http else "",
            destination_ip="127.0.0.1",
            destination_port=GUARDED if http else TUNNELLED,
            principal=principal,
            sni=one(("a.example", "b.other")) if principal else one(("", "", "a.example")),
            metadata={},
        )
        return replace(asked, call=call)


@dataclass(slots=True, kw_only=True)
class Guarded:
    """One workload's policies, the ports on which they stand in Envoy, and the calls with which they are asked."""

    policies: WorkloadPolicies
    ports: dict[int, int]
    calls: list[Asked] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All of them in one Envoy, and in the simulator."""

    guarded: list[Guarded]
    simulator: Simulator
    folder: Path
    identities: dict[str, Path]

    def simulate(self, one: Guarded, asked: Asked) -> Outcome:
        port = one.ports[asked.call.destination_port]
        return self.simulator.simulate(request_of(asked, Arrival.DIRECT, Address(ip="127.0.0.1", port=port)))

    def logged(self, count: int) -> dict[str, dict[str, str]]:
        """The lines of the access log by the call's id, once there are so many."""
        deadline = time.monotonic() + 10
        while True:
            text = (self.folder / "access.log").read_text()
            lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
            if len(lines) >= count or time.monotonic() > deadline:
                return {line["id"]: line for line in lines}
            time.sleep(0.05)


def _identities(folder: Path) -> tuple[dict[str, Path], str]:
    """A certificate for every principal, of one authority for each trust domain; and all roots."""
    now, found, roots = datetime.now(UTC), dict[str, Path](), ""
    for domain in sorted({principal.partition("/")[0] for principal in PRINCIPALS if principal}):
        authority = open_authority(folder / "ca" / domain, domain, now)
        roots += authority.roots_pem.decode()
        for principal in (one for one in PRINCIPALS if one.startswith(f"{domain}/")):
            _, _, namespace, _, account = principal.split("/")
            identity = workload_id(trust_domain=domain, namespace=namespace, service_account=account, name="w")
            where = folder / "identities" / principal.replace("/", "-")
            issue(authority, identity, where, now=now, lifetime=timedelta(hours=1))
            found[principal] = where
    return found, roots


def _listeners(one: Guarded, tls: Json, log: Json) -> list[Json]:
    bound = FrozenMap(one.ports)
    http, tcp = filters_of(one.policies, LocalPorts(captured=False, bound=bound))
    manager = build.manager(_routes(), http, access_log=[log])
    return [
        build.listener(one.ports[GUARDED], chains_of([manager], tls), **_inspecting()),
        build.listener(one.ports[TUNNELLED], chains_of([*tcp, build.tcp("answers")], tls), **_inspecting()),
    ]


@pytest.fixture
def world(envoy: Path, tmp_path: Path) -> Iterator[World]:
    identities, roots = _identities(tmp_path)
    server = next(iter(identities.values()))
    tls = asking_tls((server / "cert.pem").read_text(), (server / "key.pem").read_text(), roots)
    kind = "extensions.access_loggers.file.v3.FileAccessLog"
    path = str(tmp_path / "access.log")
    log = {"name": "log", "typed_config": build.typed(kind, path=path, log_format={"json_format": LOG_FIELDS})}
    free = iter(real_envoy.free_ports(2 * SETS + 1))
    answering = next(free)
    guarded = []
    for seed in range(SETS):
        maker = Sampled(seed)
        policies, ports = maker.workload(), {GUARDED: next(free), TUNNELLED: next(free)}
        calls = [maker.asked(http=number % 4 > 0) for number in range(CALLS)]
        guarded.append(Guarded(policies=policies, ports=ports, calls=calls))
    listeners = [build.listener(answering, [build.chain([build.manager(_routes())])])]
    listeners += [found for one in guarded for found in _listeners(one, tls, log)]
    clusters = [build.static("answers", [build.endpoint("127.0.0.1", answering)])]
    simulator = Simulator(build.resources(listeners=listeners, clusters=clusters))
    with real_envoy.serving(envoy, tmp_path, listeners, clusters):
        yield World(guarded=guarded, simulator=simulator, folder=tmp_path, identities=identities)


def _context(folder: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if folder is not None:
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def _status(one: Guarded, asked: Asked, contexts: dict[str, ssl.SSLContext], name: str) -> int:
    """What Envoy answers; 0 if it closes the connection. Through the tunnel it is asked whether anything comes back."""
    call = asked.call
    connection = HTTPConnection("127.0.0.1", one.ports[call.destination_port], timeout=10)
    plain = socket.create_connection((connection.host, connection.port), 10, (call.source_ip, 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wrapped = call.principal or call.sni
    context = contexts[call.principal]
    connection.sock = context.wrap_socket(plain, server_hostname=call.sni or None) if wrapped else plain
    try:
        if call.http is None:
            connection.request("GET", "/", headers={"Host": "tunnel.example"})
        else:
            request = http_of(asked, call.http)
            headers = {"Host": request.authority, "x-id": name, **dict(request.headers)}
            connection.request(request.method, request.path, headers=headers)
        return connection.getresponse().status
    except (HTTPException, OSError):
        return 0
    finally:
        connection.close()


def _reason(decision: PolicyDecision) -> str:
    """How Envoy's log names what turned a request away."""
    if decision.action == "JWT":
        return "jwt_authn_access_denied{"
    return f"rbac_access_denied_matched_policy[{decision.policy or 'none'}]"


@pytest.mark.envoy
def test_a_real_envoy_says_the_same(world: World) -> None:
    contexts = {name: _context(world.identities.get(name)) for name in PRINCIPALS}
    got: dict[str, tuple[Guarded, Asked, int]] = {}
    for number, one in enumerate(world.guarded):
        for index, asked in enumerate(one.calls):
            name = f"{number}-{index}"
            got[name] = (one, asked, _status(one, asked, contexts, name))
    lines = world.logged(sum(asked.call.http is not None for _, asked, _ in got.values()))
    for name, (one, asked, status) in got.items():
        line = lines.get(name, {})
        said = Said(status=status, deny=TRIED.get(line.get("deny") or ""), allow=TRIED.get(line.get("allow") or ""))
        outcome = world.simulate(one, asked)
        assert said == of_model(one.policies, asked) == of_outcome(outcome), (name, asked, line, outcome.reason)
        if outcome.decided_by is not None and asked.call.http is not None:
            assert line["why"].startswith(_reason(outcome.decided_by)), name
    assert set(Counter(status for _, _, status in got.values())) == {0, 200, 401, 403}
