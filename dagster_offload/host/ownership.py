"""Who else could have written a file: what another user wrote is neither read as settings nor run as code.

The administrator (root) is trusted, as everywhere on a Unix machine. Access control lists are seen as far as the mode
shows them: a list that lets somebody write shows as the group's right.
"""

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Me:
    """This process' user. `private_group`: a group that holds nobody else (Fedora, Ubuntu), None where there is none."""

    uid: int
    private_group: int | None


def me() -> Me:
    uid, gid = os.geteuid(), os.getegid()
    try:
        name, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid)
    except KeyError:  # a container's user without a name
        return Me(uid, None)
    return Me(uid, gid if group.gr_name == name and set(group.gr_mem) <= {name} else None)


def stranger(status: os.stat_result, user: Me) -> str | None:
    """In words, who besides `user` and root may have written what has this status; None where nobody may."""
    return belongs_to_other(status, user) or others_may_write(status, user)


def belongs_to_other(status: os.stat_result, user: Me) -> str | None:
    """In words, whom it belongs to; None where that is `user` or root."""
    return None if status.st_uid in (0, user.uid) else f"belongs to {user_name(status.st_uid)}"


def others_may_write(status: os.stat_result, user: Me) -> str | None:
    """In words, who besides its owner may write what has this status; None where nobody may."""
    if status.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    # Group 0 is root's own; OpenShift runs every container in it.
    is_private = status.st_gid == 0 or status.st_gid == user.private_group
    if status.st_mode & stat.S_IWGRP and not is_private:
        return f"can be written by the group {_group_name(status.st_gid)}"
    return None


def why_unsafe_for_code(folder: Path, user: Me) -> str | None:
    """Why a private folder made in `folder` could be replaced by another user; None where it could not.

    A sticky folder such as /tmp is fine: there only the owner of an entry renames it. Raises `OSError`.
    """
    real = folder.resolve(strict=True)
    for place in (real, *real.parents):
        status = place.stat()
        owner = belongs_to_other(status, user) if place == real else None
        writers = None if status.st_mode & stat.S_ISVTX else others_may_write(status, user)
        if (reason := owner or writers) is not None:
            return f"{place} {reason}"
    return None


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"with id {gid}"
