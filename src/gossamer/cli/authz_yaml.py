"""What was learnt, as YAML in Istio's words, with the evidence beside each rule.

Invariant: whatever was seen is quoted, so a path can neither be anything else than a text nor end a comment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from gossamer.cli.authz_learn import Learnt, LearntPolicy, LearntRule, Operation, evidence_words
from gossamer.cli.authz_seen import moment

_KIND = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy"


def policies_yaml(learnt: Learnt, now: float, *, deny_by_default: bool) -> str:
    """All policies of one conclusion as one file."""
    parts = ["".join(f"{line}\n" for line in _head(learnt, now, deny_by_default=deny_by_default))]
    parts += ["".join(f"{line}\n" for line in _policy(policy)) for policy in learnt.policies]
    if deny_by_default:
        parts.append(_nothing(learnt.closing))
    return "---\n".join(parts)


def _head(learnt: Learnt, now: float, *, deny_by_default: bool) -> Iterator[str]:
    yield f"# Learnt by gossamer authz learn on {moment(now)}, from what sidecars have seen."
    yield "# Each rule allows what was seen and allowed, and nothing else. Policies that are there already stay."
    if not deny_by_default:
        yield "# Services without a policy below stay open; --deny-by-default closes them."
    yield from _listed("What could not be seen:", learnt.unseen)
    yield from _listed("Left out, since too little was seen:", learnt.missing)


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"# {title}"
        for line in lines:
            yield f"# - {_comment(line)}"


def _policy(policy: LearntPolicy) -> Iterator[str]:
    if policy.beside:
        yield f"# Beside it stand {_comment(', '.join(policy.beside))}: what those allow, they go on allowing."
    yield _KIND
    yield f"metadata: {{name: {_quoted(policy.name)}, namespace: {_quoted(policy.namespace)}}}"
    yield "spec:"
    yield f"  selector: {{matchLabels: {json.dumps(dict(policy.selector), ensure_ascii=False)}}}"
    yield "  action: ALLOW"
    yield "  rules:"
    for rule in policy.rules:
        yield from _rule(rule)


def _rule(rule: LearntRule) -> Iterator[str]:
    yield f"    # {_comment(evidence_words(rule.evidence))}"
    start = "    - "
    if rule.principals:
        yield f"{start}from:"
        yield f"        - source: {{principals: {_list(rule.principals)}}}"
        start = "      "
    yield f"{start}to:"
    for operation in rule.operations:
        yield from _operation(operation)


def _operation(operation: Operation) -> Iterator[str]:
    yield "        - operation:"
    yield f"            ports: {_list([str(operation.port)])}"
    if operation.methods:
        yield f"            methods: {_list(operation.methods)}"
    if operation.paths:
        yield "            paths:"
        for path in operation.paths:
            yield f"              - {_quoted(path)}"


def _nothing(namespace: str) -> str:
    return (
        "# Whatever no policy allows is denied.\n"
        f"{_KIND}\n"
        f"metadata: {{name: allow-nothing, namespace: {_quoted(namespace)}}}\n"
        "spec: {}\n"
    )


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, values))}]"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _comment(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)
