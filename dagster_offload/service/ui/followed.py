"""The access of a running UI, which follows its files: a new password or token is in force at the next request."""

import logging
import secrets
from dataclasses import replace
from pathlib import Path

from dagster_offload.errors import SettingsError
from dagster_offload.service.ui.access import Access
from dagster_offload.service.ui.passwords import UNUSABLE, read_password_file
from dagster_offload.service.ui.sessions import SECRET_NAME, load_secret

logger = logging.getLogger(__name__)

_MISSING = "missing"


class FollowedAccess:
    """Gives the access that is in force now. While a file cannot be used, its log-in is off."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._files = [access.home / SECRET_NAME]
        if access.password_file is not None:
            self._files.append(access.password_file)
        # They are read again at the first request: they may have changed since `access` was made.
        self._seen: object = None

    def now(self) -> Access:
        """The access in force. It is the same object until the password or the secret changes."""
        found = [_signature(file) for file in self._files]
        # A secret that could not be created is tried again at each request: the disk may have room by now.
        if found != self._seen or found[0] == _MISSING:
            self._seen = found
            self._take()
        return self._access

    def _take(self) -> None:
        access = self._access
        secret = _secret(access.home)
        line = None if access.password_file is None else _line(access.password_file)
        sessions = access.sessions.following(secret, line)
        if sessions is not access.sessions:
            token = None if access.token is None else secret
            self._access = replace(access, token=token, password=line, sessions=sessions)


def _secret(home: Path) -> str:
    try:
        return load_secret(home)
    except SettingsError as error:
        logger.warning("no one can log in by token, and all sessions have ended, until this is corrected: %s", error)
        return secrets.token_urlsafe(32)


def _line(file: Path) -> str:
    try:
        return read_password_file(file)
    except SettingsError as error:
        logger.warning("no one can log in by password until this is corrected: %s", error)
        return UNUSABLE


def _signature(file: Path) -> object:
    """Changes with the content, the owner and the rights of the file."""
    try:
        status = file.stat()
    except OSError:
        return _MISSING
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
