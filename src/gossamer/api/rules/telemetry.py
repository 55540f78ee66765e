"""Telemetry.

Rules: Istio's documentation of Telemetry, and what its CRD enforces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.api.cel import cel_problem
from gossamer.api.findings import At
from gossamer.api.resource import Resource
from gossamer.api.rules.common import check_duration, check_length, check_one_of, check_range, is_written, written
from gossamer.api.rules.targets import check_targets, check_workload_selector
from gossamer.api.telemetry import AccessLogging, CustomTag, Metrics, ProviderRef, TagOperation, Telemetry, Tracing


def check_telemetry(resource: Resource[Telemetry], raw: Any, at: At) -> None:
    spec = resource.spec
    check_workload_selector(spec.selector, at["selector"])
    check_targets(spec, raw, at)
    if len(spec.tracing) > 1:
        at["tracing"].warning("no-effect", "multiple tracing is not currently supported: the first is used")
    for index, tracing in enumerate(spec.tracing):
        _check_tracing(tracing, at["tracing", index])
    raw_metrics = written(raw, "metrics")
    for index, metrics in enumerate(spec.metrics):
        _check_metrics(metrics, raw_metrics[index], at["metrics", index])
    for index, logging in enumerate(spec.access_logging):
        _check_logging(logging, at["accessLogging", index])


def _check_providers(providers: Sequence[ProviderRef], at: At) -> None:
    for index, provider in enumerate(providers):
        check_length(provider.name, 1, len(provider.name), at[index, "name"])


def _check_tracing(tracing: Tracing, at: At) -> None:
    _check_providers(tracing.providers, at["providers"])
    if len(tracing.providers) > 1:
        at["providers"].warning("no-effect", "multiple providers is not currently supported: the first is used")
    if tracing.random_sampling_percentage is not None:
        check_range(tracing.random_sampling_percentage, 0, 100, at["randomSamplingPercentage"])
    for name, tag in tracing.custom_tags.items():
        here = at["customTags", name]
        if not name:
            here.error("required", "the name of a tag must not be empty")
        _check_tag(tag, here)


def _check_tag(tag: CustomTag, at: At) -> None:
    kinds: Mapping[str, tuple[str, str] | None] = {
        "literal": ("value", tag.literal.value) if tag.literal else None,
        "environment": ("name", tag.environment.name) if tag.environment else None,
        "header": ("name", tag.header.name) if tag.header else None,
        "formatter": ("value", tag.formatter.value) if tag.formatter else None,
    }
    check_one_of(at, {kind: said is not None for kind, said in kinds.items()})
    if not any(kinds.values()):
        at.warning("no-effect", f"the tag has none of {', '.join(kinds)}, so it is never set")
    for kind, said in kinds.items():
        if said is not None:
            check_length(said[1], 1, len(said[1]), at[kind, said[0]])


def _check_metrics(metrics: Metrics, raw: Any, at: At) -> None:
    _check_providers(metrics.providers, at["providers"])
    check_duration(metrics.reporting_interval, at["reportingInterval"])
    raw_overrides = written(raw, "overrides")
    for index, override in enumerate(metrics.overrides):
        here = at["overrides", index]
        if override.match:
            match = override.match
            one = {"metric": match.metric is not None, "customMetric": match.custom_metric is not None}
            check_one_of(here["match"], one)
            if match.custom_metric is not None:
                check_length(match.custom_metric, 1, len(match.custom_metric), here["match", "customMetric"])
        raw_tags = written(raw_overrides[index], "tagOverrides")
        for name, tag in override.tag_overrides.items():
            _check_override(tag.operation, tag.value, raw_tags.get(name), here["tagOverrides", name])


def _check_override(operation: TagOperation, value: str, raw: Any, at: At) -> None:
    if not at.path[-1]:
        at.error("required", "the name of a tag must not be empty")
    if operation is TagOperation.REMOVE:
        if is_written(raw, "value"):
            at["value"].error("exclusive-fields", "value must not be set when operation is REMOVE")
    elif not value:
        at["value"].error("required", "value must be set when operation is UPSERT")
    elif problem := cel_problem(value):
        at["value"].warning("invalid-expression", f"not an expression of CEL: {problem}; the tag is not set")


def _check_logging(logging: AccessLogging, at: At) -> None:
    _check_providers(logging.providers, at["providers"])
    if logging.filter and logging.filter.expression and (problem := cel_problem(logging.filter.expression)):
        at["filter", "expression"].error("invalid-expression", f"not an expression of CEL: {problem}")
