"""Who would be refused under STRICT, what a dry run would have denied; steps forward and back, in their own files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from gossamer.api.load import SourceFile, load
from gossamer.cli.authz_migrate import PERMISSIVE, STRICT, existing, standing, standings, step_yaml
from gossamer.cli.authz_seen import Peer, Seen, SeenMesh, SeenWorkload
from gossamer.cli.authz_shadow import Tried, shadows, tried
from gossamer.cli.authz_step import follow_step, write_step
from gossamer.core.errors import GossamerError
from tests.cli.test_authz_learn import JOBS, NOW, WEB, cart, seen

PLAIN = "plaintext:10.0.0.7"
DAY = 86_400.0


def mesh(*workloads: SeenWorkload, peers: tuple[Peer, ...] = ()) -> SeenMesh:
    return SeenMesh(now=NOW, workloads=workloads, peers=peers)


def peer(**other: object) -> Peer:
    base: dict[str, object] = {"namespace": "shop", "name": "own", "selector": {}, "mode": PERMISSIVE, "ports": {}}
    return Peer(**(base | other))  # type: ignore[arg-type]


def test_a_namespace_is_ready_when_nobody_speaks_plaintext_there() -> None:
    (found,) = standings(mesh(cart(seen(), seen(PLAIN, "/old", last=NOW - DAY - 1))), DAY)
    assert (found.problems, found.modes, found.done) == ((), (PERMISSIVE,), False)
    assert [(call.caller, call.count) for call in found.plaintext] == [("10.0.0.7", 10)]
    door = replace(cart(seen(PLAIN, last=NOW)), namespace="edge", gateway=True)
    assert [one.namespace for one in standings(mesh(cart(), door), DAY)] == ["shop"], "gateways are another matter"


@pytest.mark.parametrize(
    ("workload", "why"),
    [
        (cart(seen(PLAIN, "/a", last=NOW)), "10.0.0.7 calls shop/cart-v1 port 8080 in plaintext (10 times"),
        (cart(since=NOW - 3600), "seen for 1 h, 1 d are wanted"),
        (cart(observed=False, host="h"), "host h does not report"),
        (cart(reporting=False, host="h"), "host h has not reported"),
        (cart(missed=500), "500 of 1500 entries got lost; plaintext may be"),
        (cart(unrecorded=500), "500 were of too many kinds to record"),
    ],
)
def test_what_stands_in_the_way_is_said(workload: SeenWorkload, why: str) -> None:
    assert why in "\n".join(standing(mesh(workload), "shop", DAY).problems)


def test_callers_are_told_by_who_is_at_their_address() -> None:
    caller = replace(cart(name="web-1"), namespace="web", addresses=("10.0.0.7",))
    rows = (
        seen(PLAIN, "/a", last=NOW),
        seen(PLAIN, "/b", last=NOW),
        seen(PLAIN, "", verdict="refused", protocol="tcp"),
    )
    found = standing(mesh(cart(*rows), caller), "shop", DAY)
    assert [(call.caller, call.what, call.count) for call in found.plaintext] == [
        ("web/web-1 (10.0.0.7)", ("GET /a", "GET /b"), 20)
    ]
    assert "it has a sidecar, and goes round it" in found.problems[0]
    assert [call.what for call in found.refused] == [("TCP",)]
    many = replace(caller, name="web-2", host="h")
    assert "a process on host" in standing(mesh(cart(*rows), caller, many), "shop", DAY).problems[0]
    apart = cart(seen(PLAIN, last=NOW), port_modes={8080: "DISABLE"})
    assert not standing(mesh(apart), "shop", DAY).problems, "a port that takes plaintext by a rule of its own"


def test_what_a_step_does_not_reach_is_said() -> None:
    own = peer(name="legacy", selector={"app": "legacy"}, ports={8080: "DISABLE"}, file="peers.yaml", line=3)
    found = standing(mesh(cart(), peers=(own,)), "shop", DAY)
    assert found.notes == (
        "PeerAuthentication shop/legacy (peers.yaml:3) stays as it is: PERMISSIVE, port 8080 DISABLE",
    )
    whole = standing(mesh(cart(), peers=(peer(),)), "istio-system", DAY)
    assert whole.notes == ("namespace shop has a PeerAuthentication of its own, which stays: shop/own",)
    with pytest.raises(GossamerError, match="no sidecar runs"):
        standing(mesh(cart()), "nowhere", DAY)


def test_a_step_is_a_policy_of_the_namespace_forward_and_back(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    for mode in (STRICT, PERMISSIVE):
        held = peer(name="default", file=str(path)) if path.exists() else None
        write_step(path, step_yaml("shop", mode), "shop", held)
        loaded = load([SourceFile(name="shop.yaml", text=path.read_text())])
        assert not loaded.diagnostics
        (found,) = loaded.config.peer_authentications
        assert found.spec.mtls is not None
        assert (found.namespace, found.name, found.spec.mtls.mode.value) == ("shop", "default", mode)


def test_no_file_of_others_is_touched(tmp_path: Path) -> None:
    others = tmp_path / "others.yaml"
    others.write_text("kind: Service\n")
    with pytest.raises(GossamerError, match="holds more than a step of shop"):
        write_step(others, step_yaml("shop", STRICT), "shop", None)
    mine = tmp_path / "mine.yaml"
    mine.write_text(step_yaml("shop", STRICT) + "---\nkind: Service\n")
    with pytest.raises(GossamerError, match="holds more than a step of shop"):
        write_step(mine, step_yaml("shop", PERMISSIVE), "shop", None)
    held = peer(file=str(others), line=7)
    with pytest.raises(
        GossamerError, match=r"shop/own speaks for shop already .*others.yaml:7; write mode: STRICT there"
    ):
        write_step(tmp_path / "new.yaml", step_yaml("shop", STRICT), "shop", held)
    assert others.read_text() == "kind: Service\n"
    assert not (tmp_path / "new.yaml").exists()
    with pytest.raises(GossamerError, match="several PeerAuthentications"):
        existing(mesh(peers=(peer(), peer(name="too"))), "shop")


def test_a_step_is_looked_after(capsys: pytest.CaptureFixture[str]) -> None:
    strict = peer(name="default", mode=STRICT)

    def follow(found: Callable[[], SeenMesh], mode: str = STRICT) -> None:
        follow_step(found, "shop", mode, NOW, time.monotonic())

    follow(lambda: mesh(cart(), peers=(strict,)))
    assert "nobody was refused so far" in capsys.readouterr().out
    follow(lambda: mesh(cart(), peers=(peer(),)), PERMISSIVE)
    with pytest.raises(GossamerError, match="has not read it"):
        follow(lambda: mesh(cart()))
    refused = cart(seen(PLAIN, "", protocol="tcp", verdict="refused", last=NOW + 1))
    with pytest.raises(typer.Exit):
        follow(lambda: mesh(refused, peers=(strict,)))
    assert "refused: plaintext from 10.0.0.7 to shop/cart-v1 port 8080" in capsys.readouterr().err


def would(text: str, caller: str = WEB, **other: object) -> Seen:
    return seen(caller, would=text, **other)  # type: ignore[arg-type]


def test_dry_runs_tell_what_they_would_have_denied() -> None:
    deny, allow = "deny:ns[shop]-policy[no-jobs]-rule[0]", "allow:ns[shop]-policy[opens]-rule[1]"
    tries = cart(
        would(deny, JOBS), would(deny, JOBS, path="/more", count=30), seen(), would(allow, verdict="denied", by="none"),
        would("deny:ns[shop]-policy[gone]-rule[0]"), dry_run=("shop/no-jobs", "shop/opens", "shop/idle"),
        dry_run_allow=("shop/opens",),
    )  # fmt: skip
    found = shadows(mesh(tries))
    assert [(one.would, one.policy, one.caller, one.destination, one.what, one.count) for one in found] == [
        ("denied", "shop/no-jobs rule 0", "jobs/batch", "shop/cart-v1", "GET /more", 30),
        ("denied", "shop/no-jobs rule 0", "jobs/batch", "shop/cart-v1", "GET /", 10),
        ("allowed", "shop/opens rule 1", "web/front", "shop/cart-v1", "GET /", 10),
    ]
    assert tried(mesh(tries)) == (
        Tried(policy="shop/idle", seen=70, hits=0),
        Tried(policy="shop/no-jobs", seen=70, hits=40),
        Tried(policy="shop/opens", seen=70, hits=10),
    )
    assert shadows(mesh(tries), "other") == ()
    assert shadows(mesh(tries), since=3000.0) == ()
    assert found[0].to_json()["last"] == "1970-01-01T00:33:20Z"


def test_an_allow_in_a_dry_run_denies_what_it_does_not_match_where_no_other_allows() -> None:
    row = would("deny:none")
    alone = cart(row, dry_run=("shop/new",), dry_run_allow=("shop/new",))
    (found,) = shadows(mesh(alone))
    assert (found.would, found.policy) == ("denied", "none of shop/new")
    assert tried(mesh(alone))[0].hits == 10
    assert not shadows(mesh(replace(alone, allow=("shop/other",)))), "beside another ALLOW it denies nothing"
