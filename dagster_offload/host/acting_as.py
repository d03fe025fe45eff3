"""Root that reads what another user chose, with the rights of that user."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def acting_as(user: pwd.struct_passwd) -> Iterator[None]:
    """Let root be this user for files during the block: what it cannot read, the user cannot either.

    For a process with one thread. Import what the block needs before: the user may be unable to read the modules.
    """
    group, groups = os.getegid(), os.getgroups()
    os.initgroups(user.pw_name, user.pw_gid)
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
