from __future__ import annotations

from typing import Any

import pytest

from gossamer.core.errors import StateError
from gossamer.model.service import Health
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.registry import FORGET_S, LEASE_S, Condition, Registry


def reviews(name: str = "reviews-v1", **fields: object) -> rpc.Workload:
    base: dict[str, object] = {
        "name": name,
        "namespace": "default",
        "service_account": "reviews",
        "labels": {"app": "reviews", "version": "v1"},
        "addresses": ["10.0.0.2"],
        "ports": [rpc.WorkloadPort(name="http", number=9080, mesh_port=24001)],
        "capture": rpc.Capture(mode=rpc.CAPTURE_MODE_TRANSPARENT, mesh_address="127.0.0.1"),
        "type": rpc.PROXY_TYPE_SIDECAR,
        "state": rpc.WORKLOAD_STATE_READY,
    }
    return rpc.Workload(**(base | fields))  # type: ignore[arg-type]


KEY = ("default", "reviews-v1")


def test_a_workload_is_an_endpoint_where_its_callers_dial_it() -> None:
    registry = Registry("cluster.local")
    assert registry.renew("host-a", [reviews()], now=0) == []
    held = registry.snapshot[KEY]
    assert held.workload.address == "127.0.0.1"
    assert held.workload.ports == {9080: 24001}
    assert held.workload.named_ports == {"http": 9080}
    assert held.proxy.capture.mesh_ports == {9080: 24001}
    assert held.proxy.spiffe_id == "spiffe://cluster.local/ns/default/sa/reviews"
    assert held.proxy.dns_name == "reviews-v1.default.workload.cluster.local"


def test_a_lost_heartbeat_takes_the_endpoint_out_and_later_forgets_it() -> None:
    registry = Registry("cluster.local")
    registry.renew("host-a", [reviews()], now=0)
    registry.renew("host-a", [], now=10)
    registry.expire(LEASE_S + 9)
    assert registry.snapshot[KEY].workload.health is Health.HEALTHY
    registry.expire(LEASE_S + 10)
    assert registry.snapshot[KEY].workload.health is Health.UNHEALTHY
    assert registry.snapshot[KEY].state_message == "heartbeat lost"
    registry.expire(10 + LEASE_S + FORGET_S)
    assert not registry.snapshot


def test_one_that_says_itself_that_it_is_not_well() -> None:
    """It stays so when it is not heard of any more; of others it is not known."""
    registry = Registry("cluster.local")
    for state in (rpc.WORKLOAD_STATE_STARTING, rpc.WORKLOAD_STATE_UNHEALTHY):
        registry.renew("host-a", [reviews(state=state)], now=0)
        assert registry.snapshot[KEY].workload.health is Health.UNREADY
    registry.expire(LEASE_S + 1)
    assert registry.snapshot[KEY].workload.health is Health.UNREADY


def test_a_renewal_that_says_nothing_new_keeps_the_same_snapshot() -> None:
    registry = Registry("cluster.local")
    registry.renew("host-a", [reviews()], now=0)
    before = registry.snapshot
    registry.renew("host-a", [reviews()], now=1)
    assert registry.snapshot is before


def test_a_host_cannot_take_over_or_remove_anothers_workload() -> None:
    registry = Registry("cluster.local")
    registry.renew("host-a", [reviews()], now=0)
    [rejection] = registry.renew("host-b", [reviews()], now=1)
    assert "host-a" in rejection.reason
    registry.remove("host-b", [KEY], now=2)
    assert registry.snapshot[KEY].host == "host-a"
    registry.renew("host-b", [reviews()], now=LEASE_S + 1)
    assert registry.snapshot[KEY].host == "host-b", "after the lease has ended the name is free"


def test_the_first_word_of_a_stream_is_the_whole_truth() -> None:
    registry = Registry("cluster.local")
    registry.renew("host-a", [reviews(), reviews("reviews-v2")], now=0)
    registry.renew("host-b", [reviews("reviews-v3")], now=0)
    registry.renew("host-a", [reviews("reviews-v2")], now=1, whole=True)
    assert [name for _, name in registry.snapshot] == ["reviews-v2", "reviews-v3"]


def test_a_name_keeps_its_account_while_it_is_remembered() -> None:
    registry = Registry("cluster.local")
    registry.renew("host-a", [reviews()], now=0)
    later = LEASE_S + 1
    [rejection] = registry.renew("host-b", [reviews(service_account="other")], now=later)
    assert "service account reviews" in rejection.reason
    assert registry.owner(*KEY, now=0) == "host-a"
    assert registry.owner(*KEY, now=later) is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"capture": rpc.Capture(mesh_address="/var/run/docker.sock")}, "docker.sock"),
        ({"addresses": ["garbage"]}, "garbage"),
        ({"ports": [rpc.WorkloadPort(number=70000)]}, "70000"),
        ({"locality": "a//b"}, "is not region/zone/subzone"),
        ({"network": "a b"}, "is not a name"),
        ({"cluster": "x" * 64}, "is not a name"),
        ({"gateway_ports": {80: 0}}, "0 is no port"),
        ({"name": "../up"}, "name"),
        ({"namespace": "A"}, "namespace"),
    ],
)
def test_what_is_not_what_it_should_be_is_not_taken(fields: dict[str, Any], named: str) -> None:
    registry = Registry("cluster.local")
    [rejection] = registry.renew("host-a", [reviews(**fields)], now=0)
    assert named in rejection.reason
    assert not registry.snapshot


def test_registrations_survive_a_restart() -> None:
    registry = Registry("cluster.local")
    registry.renew("host-a", [reviews(), reviews("reviews-v2")], now=0)
    again = Registry("cluster.local")
    again.restore(registry.save(now=1000), now=1000)
    assert again.snapshot == registry.snapshot
    for damaged in ("[1]", '[{"host": "a", "workload": {"ports": 1}}]', "{"):
        with pytest.raises(StateError):
            again.restore(damaged, now=0)


@pytest.mark.parametrize(("opened", "dialled"), [("127.0.0.7", "127.0.0.7"), ("0.0.0.0", "10.0.0.1"), ("", "10.0.0.1")])
def test_a_gateway_is_dialled_where_its_agent_opened_it(opened: str, dialled: str) -> None:
    registry = Registry("cluster.local")
    message = reviews(
        type=rpc.PROXY_TYPE_ROUTER,
        addresses=["10.0.0.1"],
        ports=[rpc.WorkloadPort(name="https", number=443)],
        gateway_ports={443: 18443},
        capture=rpc.Capture(address=opened),
    )
    assert registry.renew("host-a", [message], now=0) == []
    held = registry.snapshot[KEY]
    assert (held.workload.address, held.workload.service_numbers[443]) == (dialled, 18443)
    assert held.workload.router
    assert not held.workload.tls
    assert not held.proxy.binds_paths


def test_a_registration_knows_since_when_it_is_as_it_is() -> None:
    registry = Registry("cluster.local")
    registry.renew("host-a", [reviews(state=rpc.WORKLOAD_STATE_STARTING)], now=0)
    assert (registry.snapshot[KEY].condition, registry.snapshot[KEY].since) == (Condition.STARTING, 0)
    registry.renew("host-a", [reviews()], now=4)
    registry.renew("host-a", [reviews(incarnation=9)], now=6)
    assert (registry.snapshot[KEY].condition, registry.snapshot[KEY].since) == (Condition.READY, 4)
    registry.expire(6 + LEASE_S + 3)
    assert (registry.snapshot[KEY].condition, registry.snapshot[KEY].since) == (Condition.LOST, 6 + LEASE_S)
    registry.renew("host-a", [reviews()], now=40)
    assert (registry.snapshot[KEY].condition, registry.snapshot[KEY].since) == (Condition.READY, 40)
    again = Registry("cluster.local")
    again.restore(registry.save(now=50), now=1000)
    assert again.snapshot[KEY].since == 990
