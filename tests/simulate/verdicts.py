"""One workload's policies in three hands: the policy model, the simulator on what they compile to, and a real Envoy on
the same bytes.

Invariant: all three are asked the same `Asked`; what of it each is told is written here once.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.json_format import MessageToDict

from gossamer.api.authorization_policy import Action
from gossamer.api.request_authentication import JWTRule, Presence
from gossamer.compile.policies.ports import LocalPorts
from gossamer.compile.policies.slots import HTTP_SLOTS, compile_slots
from gossamer.core.ids import Origin, ResourceId
from gossamer.model.policy import SelectedPolicy, ShadowPolicies, WorkloadPolicies
from gossamer.model.policy_match import Call, HttpCall, decide, matches
from gossamer.model.tokens import TokenRule
from gossamer.simulate import decode as _decode  # noqa: F401 - the types that are found in an Any
from gossamer.simulate.outcome import Outcome, Verdict
from gossamer.simulate.request import EXPIRED, Address, Arrival, Certificate, HttpRequest, Request, Tls
from gossamer.simulate.tokens import claims_of
from tests.compile.random_policies import CLAIMS, TRUST_DOMAINS, Maker
from tests.jws import Issuer
from tests.simulate import build
from tests.simulate.build import Json

ISSUER, SECOND = Issuer("https://iss"), Issuer("https://second")
FORGER, STRANGER = Issuer("https://iss"), Issuer("https://nobody")
GOOD: dict[str, str] = {
    "me": ISSUER.token(**{name: value for name, value in CLAIMS[1].items() if name != "iss"}),
    "you": ISSUER.token(**{name: value for name, value in CLAIMS[2].items() if name != "iss"}),
    "second": SECOND.token(aud=["me"], groups=["b", "admin"], scope="read write"),
}
BAD: dict[str, str] = {
    "forged": FORGER.token(aud=["me"]),
    "old": ISSUER.token(aud=["me"], lifetime_s=-3600),
    "stranger": STRANGER.token(),
    "no token": "a.b.c",
}
TOKENS = GOOD | BAD | {"": ""}
GUARDED, TUNNELLED = 8080, 9090
"""The ports, as policies name them, that carry HTTP and TCP."""


def check(token: str, jwks: str) -> str:
    """Whether a token is one of the good ones, for who has keys."""
    if token == BAD["old"]:
        return EXPIRED
    return "" if token in GOOD.values() and "P-256" in jwks else "it is none of the good ones"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call, with the name of the token that it carries; over TLS without a certificate where it has a server name
    and nobody calls."""

    call: Call
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is said of a call: the HTTP status (0: the connection is closed), and what a dry run would deny by its rules
    of either kind; None where that was not asked."""

    status: int
    deny: bool | None = None
    allow: bool | None = None


class OneVerdict(Maker):
    """Policies and tokens of a workload, and calls that HTTP can carry."""

    def rules(self) -> tuple[TokenRule, ...]:
        """What RequestAuthentications ask for: of no issuer, one or two."""
        some = self.random.sample(range(3), self.random.randrange(3))
        return tuple(self._rule(number) for number in sorted(some))

    def _rule(self, number: int) -> TokenRule:
        issuer = (ISSUER, SECOND, ISSUER)[number]
        rule = JWTRule(
            issuer=issuer.name,
            jwks=issuer.jwks,
            audiences=self.random.choice(((), ("me",), ("other", "you"))),
            forward_original_token=self.random.random() < 0.5,
            presence=Presence.REQUIRED if self.random.random() < 0.2 else Presence.OPTIONAL,
        )
        origin = Origin(resource=ResourceId(kind="RequestAuthentication", namespace="foo", name=f"r{number}"))
        return TokenRule(origin=origin, rule=rule)

    def workload(self) -> WorkloadPolicies:
        """All but CUSTOM, which somebody else decides."""
        return WorkloadPolicies(
            tokens=self.rules(),
            audit=self.group(Action.AUDIT),
            shadow=ShadowPolicies(deny=self.group(Action.DENY), allow=self.group(Action.ALLOW)),
            deny=self.group(Action.DENY),
            allow=self.group(Action.ALLOW),
            trust_domains=self.random.choice(TRUST_DOMAINS),
        )

    def asked(self, *, http: bool) -> Asked:
        call = self.call(http=http)
        if not http:
            return Asked(call=replace(call, remote_ip=""))
        assert call.http is not None
        path = call.http.path.replace(" ", "+")
        return Asked(
            call=replace(call, http=replace(call.http, host=call.http.host or "c.example", path=path)),
            token=self.random.choice(tuple(TOKENS)),
        )


def of_model(policies: WorkloadPolicies, asked: Asked) -> Said:
    """What the documentation says: a token that nobody takes is refused, then DENY, then ALLOW."""
    call = asked.call
    if call.http is None:
        return Said(status=200 if decide(policies, call).allowed else 0)
    claims = _claims(policies.tokens, TOKENS[asked.token])
    if isinstance(claims, int):
        return Said(status=claims)
    call = replace(call, claims=claims)
    allowed = decide(policies, call).allowed
    denied = _any(policies, policies.deny, call)
    return Said(
        status=200 if allowed else 403,
        deny=_any(policies, policies.shadow.deny, call) if any(p.rules for p in policies.shadow.deny) else None,
        allow=not _any(policies, policies.shadow.allow, call) if policies.shadow.allow and not denied else None,
    )


def _any(policies: WorkloadPolicies, some: tuple[SelectedPolicy, ...], call: Call) -> bool:
    return any(matches(policy, call, policies.trust_domains) for policy in some)


def _claims(rules: tuple[TokenRule, ...], token: str) -> Mapping[str, Any] | int:
    """The claims of a verified token, none where none is looked at or come; the status where the request is refused:
    403 for an audience, 401 for all else. Where some rules require a token, theirs alone count."""
    required = [rule for rule in rules if rule.rule.presence is Presence.REQUIRED]
    asked = required or list(rules)
    if not asked or (not token and not required):
        return {}
    claims = claims_of(token) or {"iss": ""}
    if token not in GOOD.values() or not any(_takes(rule.rule, claims) for rule in asked):
        of_issuer = [rule.rule for rule in asked if rule.rule.issuer == claims["iss"]]
        other = bool(of_issuer) and token != BAD["old"] and not _takes(of_issuer[-1], claims)
        return 403 if other else 401
    return claims | ({"scope": str(claims["scope"]).split()} if "scope" in claims else {})


def _takes(rule: JWTRule, claims: Mapping[str, Any]) -> bool:
    return rule.issuer == claims["iss"] and (not rule.audiences or bool({*rule.audiences} & {*claims.get("aud", ())}))


def request_of(asked: Asked, arrival: Arrival, destination: Address) -> Request:
    """The call as it comes to the sidecar."""
    call, tls = asked.call, None
    if call.principal or call.sni:
        shown = Certificate(uris=(f"spiffe://{call.principal}",), dns_names=("w.n.workload.cluster.local",))
        tls = Tls(server_name=call.sni, certificate=shown if call.principal else None)
    return Request(
        arrival=arrival,
        destination=destination,
        source=Address(ip=call.source_ip, port=4000),
        tls=tls,
        http=http_of(asked, call.http) if call.http is not None else None,
        metadata=call.metadata,
        check=check,
    )


def http_of(asked: Asked, http: HttpCall) -> HttpRequest:
    """The request that is sent."""
    headers = [*http.headers.items()]
    headers += [("x-forwarded-for", asked.call.remote_ip)] if asked.call.remote_ip else []
    headers += [("authorization", f"Bearer {TOKENS[asked.token]}")] if asked.token else []
    path = f"{http.path}?q=/api/x"
    return HttpRequest(authority=http.host, path=path, method=http.method, headers=tuple(headers))


def of_outcome(outcome: Outcome) -> Said:
    """What the simulator said."""
    assert outcome.verdict in (Verdict.ANSWERED, Verdict.SERVED, Verdict.DENIED), outcome.reason
    if outcome.protocol == "tcp":
        return Said(status=0 if outcome.verdict is Verdict.DENIED else 200)
    tried = {decision.action: not decision.allowed for decision in outcome.policies if decision.shadow}
    return Said(status=outcome.status, deny=tried.get("DENY"), allow=tried.get("ALLOW"))


def filters_of(policies: WorkloadPolicies, ports: LocalPorts) -> tuple[list[Json], list[Json]]:
    """What the slots of HTTP and of TCP hold, as filters in the order of evaluation."""
    found: tuple[list[Json], list[Json]] = ([], [])
    for draft in compile_slots(policies, ports):
        content = MessageToDict(draft.message, preserving_proto_field_name=True)["typed_config"]
        filter_ = {"name": draft.name, "typed_config": content}
        found[draft.name not in HTTP_SLOTS].append(filter_)
    return found


def chains_of(filters: list[Json], tls: Json) -> list[Json]:
    """The same filters for plaintext, and for TLS with or without a certificate."""
    return [
        build.chain(filters, {"transport_protocol": "tls"}, "tls", transport_socket=tls),
        build.chain(filters, {"transport_protocol": "raw_buffer"}, "plain"),
    ]


def asking_tls(chain: str, key: str, roots: str) -> Json:
    """A server's TLS that asks for a certificate and does without one; all as PEM."""
    common: Json = {
        "tls_certificates": [{"certificate_chain": _inline(chain), "private_key": _inline(key)}],
        "validation_context": {"trusted_ca": _inline(roots)},
    }
    kind = "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return {"name": "tls", "typed_config": build.typed(kind, common_tls_context=common)}


def _inline(text: str) -> Json:
    return {"inline_bytes": base64.b64encode(text.encode()).decode()}
