"""Checks whether another user could have written a file. Such a file is neither read as settings nor run as code.

Root is trusted, as on any Unix machine. Access control lists are visible only through the file mode: a list that lets
another user write appears as group write permission.
"""

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Me:
    """The user of this process. `private_group` is a group with no other member (Fedora, Ubuntu), or None."""

    uid: int
    private_group: int | None


def me() -> Me:
    """The effective user of this process."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        name, group = pwd.getpwuid(uid).pw_name, grp.getgrgid(gid)
    except KeyError:  # a container's user without a name
        return Me(uid, None)
    return Me(uid, gid if group.gr_name == name and set(group.gr_mem) <= {name} else None)


def stranger(status: os.stat_result, user: Me) -> str | None:
    """Describe who other than `user` and root could have written the file; None if no one could."""
    return belongs_to_other(status, user) or others_may_write(status, user)


def belongs_to_other(status: os.stat_result, user: Me) -> str | None:
    """Describe the owner of the file; None if the owner is `user` or root."""
    return None if status.st_uid in (0, user.uid) else f"belongs to {user_name(status.st_uid)}"


def others_may_write(status: os.stat_result, user: Me) -> str | None:
    """Describe who other than the owner may write the file; None if no one may."""
    return _others_with(status, user, stat.S_IWOTH, stat.S_IWGRP, "can be written")


def others_may_read(status: os.stat_result, user: Me) -> str | None:
    """Describe who other than the owner may read the file; None if no one may."""
    return _others_with(status, user, stat.S_IROTH, stat.S_IRGRP, "can be read")


def _others_with(status: os.stat_result, user: Me, everybody: int, group: int, what: str) -> str | None:
    """Describe who has a permission, given by its bits for everybody and for the group; None if only the owner has it."""
    if status.st_mode & everybody:
        return f"{what} by everybody"
    if status.st_mode & group and not _is_group_private(status, user):
        return f"{what} by the group {_group_name(status.st_gid)}"
    return None


def _is_group_private(status: os.stat_result, user: Me) -> bool:
    # Group 0 belongs to root. OpenShift runs every container in it.
    return status.st_gid == 0 or status.st_gid == user.private_group


def why_unsafe_for_code(folder: Path, user: Me) -> str | None:
    """Why another user could replace a private folder created in `folder`; None if no one could.

    A sticky folder such as /tmp is safe: only the owner of an entry can rename it. Raises `OSError`.
    """
    real = folder.resolve(strict=True)
    for parent in (real, *real.parents):
        status = parent.stat()
        owner = belongs_to_other(status, user) if parent == real else None
        writers = None if status.st_mode & stat.S_ISVTX else others_may_write(status, user)
        if (reason := owner or writers) is not None:
            return f"{parent} {reason}"
    return None


def user_name(uid: int) -> str:
    """The name of a user, or `user id N` if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"with id {gid}"
