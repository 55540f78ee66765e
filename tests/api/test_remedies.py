"""A mistake of type is told with what its author would have to write."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.documents import load_one, resource


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ({"match": [{"uri": "/login"}]}, "write {exact: /login} or {prefix: /login}"),
        ({"match": [{"port": "80"}]}, "write 80 without quotes"),
        ({"match": [{"ignoreUriCase": "True"}]}, "write true without quotes"),
        ({"match": [{"sourceLabels": {"version": 1}}]}, 'write "1"'),
        ({"match": [{"gateways": "mesh"}]}, "write [mesh]"),
        ({"timeout": 5}, "write 5s for seconds"),
        ({"timeout": "soon"}, ""),
        ({"match": [{"port": "http"}]}, ""),
    ],
)
def test_what_to_write_instead(rule: dict[str, Any], hint: str) -> None:
    route = [{"destination": {"host": "a"}}]
    found = load_one(resource("VirtualService", {"hosts": ["a"], "http": [{"route": route, **rule}]})).diagnostics
    assert [one.hint for one in found] == [hint]
