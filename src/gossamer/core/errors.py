"""Operational failures: what went wrong around us, never what a user wrote (that is a Diagnostic)."""

from __future__ import annotations


class GossamerError(Exception):
    """Something failed that a person can act on. The message says what was wrong, where, and what to do."""


class UsageError(GossamerError):
    """The command line or the settings ask for something impossible (exit code 2)."""


class StateError(GossamerError):
    """A file of the state directory is missing, damaged, locked by another mesh, or from a newer version."""


class IdentityError(GossamerError):
    """A certificate, key or token is invalid, expired, or does not allow what was asked."""


class CaptureError(GossamerError):
    """This host does not allow the way of capturing traffic that was asked for."""


class EnvoyError(GossamerError):
    """Envoy is missing, refused a configuration, or does not become ready."""


class UnavailableError(GossamerError):
    """A peer (control plane, agent, CA) cannot be reached."""


def failure_of(group: BaseExceptionGroup[BaseException]) -> GossamerError | None:
    """The failure that ended a group of tasks, if all that ended it are ones that a person can act on."""
    ours, others = group.split(GossamerError)
    if ours is None or others is not None:
        return None
    first: BaseException = ours
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, GossamerError) else None
