"""The access of a running UI, which follows its password file: a new password is in force at the next request."""

import logging
from dataclasses import replace
from pathlib import Path

from dagster_offload.errors import SettingsError
from dagster_offload.service.ui.access import Access
from dagster_offload.service.ui.passwords import UNUSABLE, read_password_file

logger = logging.getLogger(__name__)


class FollowedAccess:
    """Gives the access that is in force now. A password file that cannot be used lets no one in by a password."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._seen: object = (
            None  # the file is read again at the first request: it may have changed since `access` was made
        )

    def now(self) -> Access:
        """The access in force. It is the same object until the password changes."""
        file = self._access.password_file
        if file is not None and (found := _signature(file)) != self._seen:
            self._seen = found
            self._take(file)
        return self._access

    def _take(self, file: Path) -> None:
        try:
            line = read_password_file(file)
        except SettingsError as error:
            logger.warning("no one can log in by password until this is corrected: %s", error)
            line = UNUSABLE
        if line != self._access.password:
            sessions = self._access.sessions.with_password(line)
            self._access = replace(self._access, password=line, sessions=sessions)


def _signature(file: Path) -> object:
    """Changes with the content, the owner and the rights of the file."""
    try:
        status = file.stat()
    except OSError:
        return "missing"
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
