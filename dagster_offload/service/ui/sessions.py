"""The secret of a home's UI, and the sessions of browsers that are logged in.

The secret is the token in the address that `up` prints, and the key that signs session cookies. Sessions are not stored:
a cookie has the end of its session and a signature. A restart of `up` ends no session. Deleting the file ends all of them:
a running UI creates a new secret then.
"""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from dagster_offload.errors import SettingsError
from dagster_offload.host.ownership import belongs_to_other, me
from dagster_offload.host.replacing import create_file

SECRET_NAME = "ui-secret"  # noqa: S105 - a file name
MIN_LENGTH = 32
SESSION_SECONDS = 30 * 24 * 3600


def load_secret(home: Path) -> str:
    """The secret of this home's UI, created on first use in a file that only its owner can read. The home must exist.

    Raises `SettingsError` if another user can read the file or may have written it.
    """
    file = home / SECRET_NAME
    if not file.exists():
        try:
            create_file(file, secrets.token_urlsafe(32) + "\n")
        except OSError as error:
            raise SettingsError(f"{file}, the secret of the UI, cannot be written: {error.strerror}") from error
    return read_secret(home)


def read_secret(home: Path) -> str:
    """The secret of this home's UI, which exists. Raises `SettingsError` as `load_secret` does."""
    file = home / SECRET_NAME
    try:
        with file.open(encoding="ascii") as opened:
            status = os.fstat(opened.fileno())
            secret = opened.read(1024).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(
            f"{file}, the secret of the UI, cannot be read ({reason}): correct that, or delete the file: a running UI follows it"
        ) from None
    problem = belongs_to_other(status, me())
    if problem is None and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        problem = "can be read or written by other users"
    if problem is None and len(secret) < MIN_LENGTH:
        problem = "is too short"
    if problem is not None:
        raise SettingsError(f"{file}, the secret of the UI, {problem}: delete it, and `up` creates a new one")
    return secret


class Sessions:
    """Issues and checks session cookies. A changed secret or password ends all sessions."""

    def __init__(self, secret: str, password: str | None) -> None:
        self._secret, self._password = secret, password
        self._key = hmac.digest(secret.encode(), f"sessions\n{password or ''}".encode(), "sha256")
        # Cookies are shared between the ports of a host name, so each home has its own name.
        self.cookie_name = f"offload_ui_{hashlib.sha256(secret.encode()).hexdigest()[:8]}"

    def following(self, secret: str, password: str | None) -> "Sessions":
        """These sessions if neither has changed, and otherwise new ones: then no cookie of today is valid."""
        return self if (secret, password) == (self._secret, self._password) else Sessions(secret, password)

    def issue(self, now: float) -> str:
        """The value of a cookie for a session that starts at `now` (seconds since 1970)."""
        end = str(int(now) + SESSION_SECONDS)
        return f"{end}.{self._sign('session', end)}"

    def is_valid(self, cookies: str, now: float) -> bool:
        """Whether a `Cookie` header has a session that has not ended."""
        # Another server on the same host name can add a cookie of our name, so each one is checked.
        pairs = (pair.strip().partition("=") for pair in cookies.split(";"))
        return any(self._is_valid(value, now) for name, _, value in pairs if name == self.cookie_name)

    def prove(self, challenge: str) -> str:
        """An answer that only a server with this home's secret can give, and that shows nothing of the secret.

        It does not depend on the password, which may have changed since the one who asks has read it.
        """
        return _signature(self._secret.encode(), "health", challenge)

    def _is_valid(self, value: str, now: float) -> bool:
        end, _, signature = value.partition(".")
        is_signed = hmac.compare_digest(signature.encode(), self._sign("session", end).encode())
        return is_signed and int(end) > now

    def _sign(self, purpose: str, text: str) -> str:
        return _signature(self._key, purpose, text)


def _signature(key: bytes, purpose: str, text: str) -> str:
    return hmac.new(key, f"{purpose} {text}".encode(), "sha256").hexdigest()
