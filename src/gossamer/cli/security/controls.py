"""The controls of the profile `nist`, in the order of `docs/security.md`: what each asks, whose recommendation it is,
how it is judged in a running mesh, and which tests prove that it holds where it is in force.

Invariant: a control is data and one pure function; the table in the documentation has the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gossamer.cli.security import access, identity, reach, upkeep
from gossamer.cli.security.facts import Facts
from gossamer.cli.security.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """`references` are recommendations of NIST SP 800-204 (MS), 800-204A (SM) and 800-204B (APE, SAUZ, EAUN, AHLC).
    What is only `advised` fails no report."""

    id: str
    asks: str
    references: tuple[str, ...]
    judge: Callable[[Facts], Finding]
    tests: tuple[str, ...]
    advised: bool = False


_NIST: Final = "tests/cli/test_profile_nist.py::"
_INSIDE: Final = "tests/e2e/monitor/test_inside.py::"
_VERDICT: Final = "tests/simulate/test_one_verdict.py::test_a_real_envoy_says_the_same"
_REPORT: Final = "tests/e2e/test_security_report.py::test_a_mesh_under_the_profile"

CONTROLS: Final[tuple[Control, ...]] = (
    Control(
        id="mutual-tls",
        asks="Every connection to a workload is mutual TLS; plaintext is refused",
        references=("MS-SS-4", "SM-DR6", "SM-DR16", "APE-SR-3"),
        judge=identity.mutual_tls,
        tests=(
            f"{_NIST}test_plaintext_is_refused",
            "tests/e2e/test_up.py::test_mutual_tls_in_each_capture_mode",
            "tests/simulate/test_connections_against_envoy.py::test_who_is_let_in",
            _REPORT,
        ),
    ),
    Control(
        id="gateway-tls",
        asks="Clients outside reach gateways over TLS",
        references=("MS-SS-4",),
        judge=reach.gateway_tls,
        tests=("tests/cli/test_security_report.py::test_a_gateway_that_takes_plaintext_is_named",),
        advised=True,
    ),
    Control(
        id="deny-by-default",
        asks="What no policy allows is denied, by the verified identity of who calls",
        references=("SM-DR1", "SAUZ-SR-1", "SP 800-204B 5.2.1", "APE-SR-3"),
        judge=access.deny_by_default,
        tests=(f"{_NIST}test_nothing_is_allowed_that_no_policy_allows", _VERDICT, _REPORT),
    ),
    Control(
        id="end-user",
        asks="A request carries the verified credential of its user beside the caller's own",
        references=("EAUN-SR-1", "APE-SR-3"),
        judge=access.end_user,
        tests=(
            f"{_NIST}test_a_request_needs_the_users_credential_beside_the_callers",
            f"{_NIST}test_without_an_issuer_no_token_is_good",
            f"{_NIST}test_a_policy_says_what_may_do_without_a_user",
            _VERDICT,
            _REPORT,
        ),
    ),
    Control(
        id="own-namespace",
        asks="A workload reaches its own namespace, others only where a policy names them",
        references=("SM-DR2", "APE-SR-3"),
        judge=reach.own_namespace,
        tests=(f"{_NIST}test_a_workload_calls_its_own_namespace_alone",),
    ),
    Control(
        id="no-way-out",
        asks="Nothing outside the mesh is reached that no ServiceEntry names",
        references=("SM-DR8",),
        judge=reach.no_way_out,
        tests=(f"{_NIST}test_nothing_outside_the_mesh_is_reached",),
    ),
    Control(
        id="paths",
        asks="Paths are judged as applications read them: slashes merged, escapes resolved",
        references=("SM-DR1",),
        judge=access.paths,
        tests=(
            f"{_NIST}test_paths_are_judged_as_the_application_reads_them",
            "tests/simulate/test_against_envoy.py::test_normal_paths",
        ),
    ),
    Control(
        id="short-certificates",
        asks="Workloads' certificates are valid for an hour at most, and renewed in time",
        references=("SM-DR13",),
        judge=identity.short_certificates,
        tests=("tests/node/test_identity.py::test_an_identity_is_renewed_at_half_life", _REPORT),
    ),
    Control(
        id="leaves-sign-nothing",
        asks="A workload's certificate signs no other",
        references=("SM-DR15",),
        judge=identity.leaves_sign_nothing,
        tests=("tests/ca/test_authority.py::test_a_certificate_says_what_was_authorised_and_nothing_that_was_asked",),
    ),
    Control(
        id="root",
        asks="The root of trust does not end within a month",
        references=("SM-DR12",),
        judge=identity.root,
        tests=("tests/ca/test_authority.py::test_a_certificate_never_outlives_its_issuer",),
    ),
    Control(
        id="enterprise-root",
        asks="The mesh signs by the organisation's own public-key infrastructure",
        references=("SM-DR12",),
        judge=identity.enterprise_root,
        tests=("tests/ca/test_folder.py::test_a_plugged_in_ca_signs_with_its_chain",),
        advised=True,
    ),
    Control(
        id="not-bypassable",
        asks="No application can go round its sidecar",
        references=("SM-DR1", "AHLC-SR-4"),
        judge=reach.not_bypassable,
        tests=(
            f"{_INSIDE}test_an_application_gets_nowhere_but_through_its_sidecar",
            f"{_INSIDE}test_who_is_outside_reaches_no_application_but_through_its_sidecar",
            "tests/node/test_capture_escape.py::test_every_escape_fails",
            _REPORT,
        ),
    ),
    Control(
        id="own-files",
        asks="Keys, configuration and administration are their user's alone",
        references=(),
        judge=upkeep.own_files,
        tests=(
            f"{_INSIDE}test_another_user_of_the_host_reaches_neither_admin_nor_agent_nor_keys",
            "tests/ca/test_folder.py::test_the_folder_is_its_owners_alone",
            "tests/cli/test_security_report.py::test_files_that_others_may_use_are_found",
        ),
    ),
    Control(
        id="token-keys",
        asks="The keys of every issuer of tokens are there, and not older than a day",
        references=("EAUN-SR-1",),
        judge=upkeep.token_keys,
        tests=(
            "tests/plane/test_keys.py::test_keys_are_fetched_and_their_age_is_told",
            "tests/plane/test_keys.py::test_the_last_good_keys_outlive_their_issuer_and_a_restart",
        ),
    ),
    Control(
        id="in-force",
        asks="What is declared is what proxies have: all in step, nothing refused, nothing in error",
        references=("SM-DR1",),
        judge=upkeep.in_force,
        tests=("tests/xds/test_convergence.py::test_a_client_that_refuses_things_gets_everything_else", _REPORT),
    ),
    Control(
        id="logged",
        asks="Every request is logged, and a denial with the policy that decided",
        references=("SP 800-204A (monitoring)",),
        judge=upkeep.logged,
        tests=(
            "tests/e2e/agreement/test_agreement.py::test_what_explains_a_denial_is_what_the_access_log_names",
            _VERDICT,
        ),
    ),
)
