"""The host's users, by login name or number.

Invariant: a user that this host does not know is a CaptureError, never a number that happens to be free.
"""

from __future__ import annotations

import pwd
from collections.abc import Iterable

from gossamer.core.errors import CaptureError
from gossamer.core.frozen import FrozenMap


def uids_of(users: Iterable[str]) -> tuple[int, ...]:
    """Their user ids. CaptureError for one that there is not; a number need not have a name."""
    return tuple(int(user) if user.isdigit() else _entry(user).pw_uid for user in users)


def login_environment(user: str) -> FrozenMap[str, str]:
    """What a login sets. CaptureError if there is no such user: a program cannot be started as one without a name."""
    entry = _entry(user)
    return FrozenMap({"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name})


def _entry(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except (KeyError, OverflowError) as error:
        raise CaptureError(f"this host has no user {user}; create it, or name another") from error
