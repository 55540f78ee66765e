"""A join token serves one host, once, for a while, and its folder tells the truth about it after a crash."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gossamer.ca.ledger import KEPT, Ledger
from gossamer.ca.records import SCHEMA
from gossamer.ca.tokens import Grant, HostRecord, JoinToken, Refusal, TokenError, TokenRecord, allows, renewed
from gossamer.core.errors import IdentityError, StateError

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROOT = "ab" * 32
KEY, OTHER_KEY = "1" * 64, "2" * 64


def token(number: int = 1) -> JoinToken:
    return JoinToken(secret=bytes([number]) * 32, root_fingerprint=ROOT)


def record(number: int = 1, **changes: object) -> TokenRecord:
    grants = (Grant.parse("default/*"),)
    made = TokenRecord(digest=token(number).digest, host="vm-1", grants=grants, created=NOW, expires=NOW + HOUR)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_token_is_read_as_it_was_written() -> None:
    assert JoinToken.parse(token().reveal()) == token()
    assert JoinToken.parse(f"  {token().reveal()}\n") == token()
    assert token().reveal().startswith("v1.")
    assert token().reveal().endswith("." + ROOT)


def test_a_token_shows_nothing_of_its_secret() -> None:
    assert token().reveal().split(".")[1] not in repr(token())
    with pytest.raises(TokenError) as refused:
        JoinToken.parse(token().reveal()[:-1])
    assert token().reveal().split(".")[1] not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "v1", "v1..", "v1.AAAA." + ROOT, token().reveal()[:-1], token().reveal() + "0", "v1.%%%." + ROOT, "x" * 999],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError, match="not a whole join token") as refused:
        JoinToken.parse(text)
    assert refused.value.reason is Refusal.MALFORMED


def test_a_token_of_a_later_version_is_told_apart() -> None:
    with pytest.raises(TokenError, match="of version v2"):
        JoinToken.parse("v2" + token().reveal()[2:])


@pytest.mark.parametrize(
    ("grants", "namespace", "service_account", "allowed"),
    [
        (["default/*"], "default", "reviews", True),
        (["default/*"], "prod", "reviews", False),
        (["*/*"], "prod", "reviews", True),
        (["*/reviews"], "prod", "reviews", True),
        (["*/reviews"], "prod", "ratings", False),
        (["prod/reviews"], "prod", "reviews", True),
        (["prod/reviews"], "prod", "reviews2", False),
        (["a/*", "prod/ratings"], "prod", "ratings", True),
        ([], "prod", "ratings", False),
    ],
)
def test_grants(grants: list[str], namespace: str, service_account: str, allowed: bool) -> None:
    assert allows(map(Grant.parse, grants), namespace, service_account) is allowed


@pytest.mark.parametrize("text", ["default", "", "/", "default/", "/x", "De/x", "a/b/c", "a*/x", "a/x*", "**/x"])
def test_what_is_no_grant_is_refused(text: str) -> None:
    with pytest.raises(IdentityError):
        Grant.parse(text)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def refusal(ledger: Ledger, digest: str, key: str, now: datetime) -> Refusal:
    with pytest.raises(TokenError) as refused:
        ledger.join(digest, key, now)
    return refused.value.reason


def test_the_answers_differ(ledger: Ledger) -> None:
    ledger.add_token(record())
    assert refusal(ledger, token(9).digest, KEY, NOW) is Refusal.UNKNOWN
    assert refusal(ledger, token().digest, KEY, NOW + HOUR) is Refusal.EXPIRED
    assert ledger.join(token().digest, KEY, NOW).host == "vm-1"
    assert refusal(ledger, token().digest, OTHER_KEY, NOW) is Refusal.USED
    assert refusal(ledger, token().digest, OTHER_KEY, NOW + HOUR) is Refusal.EXPIRED


def test_a_host_keeps_its_grant(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_token(record())
    joined = ledger.join(token().digest, KEY, NOW)
    assert joined.grants == (Grant.parse("default/*"),)
    assert joined.keys == (KEY,)
    assert Ledger(tmp_path).host("vm-1") == joined
    assert list(Ledger(tmp_path).hosts()) == [joined]


def test_a_token_is_used_once_also_by_many_at_once_and_after_a_restart(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_token(record())

    def try_to_join(number: int) -> bool:
        try:
            Ledger(tmp_path).join(token().digest, f"{number:064d}", NOW)
        except TokenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_to_join, range(32))) == 1
    assert refusal(Ledger(tmp_path), token().digest, KEY, NOW) is Refusal.USED


def test_a_host_whose_answer_was_lost_may_ask_again_with_its_key(ledger: Ledger) -> None:
    ledger.add_token(record())
    first = ledger.join(token().digest, KEY, NOW)
    assert ledger.join(token().digest, KEY, NOW + HOUR / 2) == first


def test_a_crash_between_the_use_and_the_host_loses_nothing(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_token(record())
    ledger.join(token().digest, KEY, NOW)
    (tmp_path / "hosts" / "vm-1.json").unlink()  # as if the control plane had died before it wrote it
    assert refusal(ledger, token().digest, OTHER_KEY, NOW) is Refusal.USED
    assert ledger.join(token().digest, KEY, NOW).keys == (KEY,)


def test_a_used_token_brings_back_neither_a_revoked_host_nor_older_grants(ledger: Ledger) -> None:
    ledger.add_token(record(1, grants=(Grant.parse("*/*"),)))
    ledger.add_token(record(2))
    ledger.join(token(1).digest, KEY, NOW)
    ledger.revoke_host("vm-1")
    assert refusal(ledger, token(1).digest, KEY, NOW) is Refusal.USED
    again = ledger.join(token(2).digest, OTHER_KEY, NOW + HOUR / 4)
    assert not again.revoked
    assert refusal(ledger, token(1).digest, KEY, NOW + HOUR / 2) is Refusal.USED
    assert ledger.host("vm-1") == again


def test_a_crash_while_joining_anew_can_be_repeated(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_token(record(1))
    ledger.join(token(1).digest, KEY, NOW)
    before = (tmp_path / "hosts" / "vm-1.json").read_bytes()
    ledger.add_token(record(2))
    ledger.join(token(2).digest, OTHER_KEY, NOW + HOUR / 4)
    (tmp_path / "hosts" / "vm-1.json").write_bytes(before)
    assert ledger.join(token(2).digest, OTHER_KEY, NOW + HOUR / 2).keys == (OTHER_KEY,)


def test_renewal_keeps_the_key_in_use_beside_the_new_one() -> None:
    host = HostRecord(host="a", grants=(), keys=(KEY,), token="t", joined=NOW, renewed=NOW)
    after = renewed(host, current=KEY, new=OTHER_KEY, now=NOW + HOUR)
    assert after.keys == (OTHER_KEY, KEY)
    assert renewed(after, current=OTHER_KEY, new="3" * 64, now=NOW).keys == ("3" * 64, OTHER_KEY)
    assert renewed(after, current=OTHER_KEY, new=OTHER_KEY, now=NOW).keys == (OTHER_KEY,)


def test_what_became_of_tokens_is_listed_and_forgotten_at_last(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_token(record(1))
    ledger.add_token(record(2, created=NOW + HOUR, expires=NOW + 3 * HOUR))
    ledger.join(token(1).digest, KEY, NOW)
    assert [(known.digest, use and use.key) for known, use in ledger.tokens()] == [
        (token(1).digest, KEY),
        (token(2).digest, None),
    ]
    ledger.forget_tokens(NOW + HOUR + KEPT)
    assert len(ledger.tokens()) == 2
    ledger.forget_tokens(NOW + 2 * HOUR + KEPT)
    assert [known.digest for known, _ in ledger.tokens()] == [token(2).digest]
    assert refusal(ledger, token(1).digest, KEY, NOW) is Refusal.UNKNOWN
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_the_secret_is_nowhere_on_disk(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_token(record())
    ledger.join(token().digest, KEY, NOW)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert token().reveal().split(".")[1] not in path.read_text()
            assert token().secret.hex() not in path.read_text()
        else:
            assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_files_of_a_newer_version_are_refused(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_token(record())
    path = tmp_path / "tokens" / f"{token().digest}.json"
    path.write_text(json.dumps({"schema": SCHEMA + 1, "content": {}}))
    with pytest.raises(StateError, match="newer Gossamer"):
        ledger.join(token().digest, KEY, NOW)


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1}', '{"schema": 1, "content": {"host": "vm-1"}}'])
def test_damaged_files_are_named(ledger: Ledger, tmp_path: Path, content: str) -> None:
    (tmp_path / "hosts" / "vm-1.json").write_text(content)
    with pytest.raises(StateError, match=r"vm-1.* is damaged"):
        ledger.host("vm-1")


def test_a_host_name_cannot_leave_the_folder(ledger: Ledger) -> None:
    for name in ("../x", "a/b", "", ".", "x" * 65):
        with pytest.raises(IdentityError):
            ledger.host(name)


def test_there_is_no_host_to_revoke(ledger: Ledger) -> None:
    with pytest.raises(IdentityError, match="no host 'vm-9'"):
        ledger.revoke_host("vm-9")


@pytest.mark.parametrize("changes", [{"grants": ()}, {"expires": NOW}, {"host": "VM 1"}])
def test_a_token_that_makes_no_sense_is_not_made(changes: dict[str, object]) -> None:
    with pytest.raises(IdentityError):
        record(1, **changes)
