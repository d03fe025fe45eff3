"""The password file of the UI: one line with a scrypt hash (RFC 7914). The password itself is stored nowhere."""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from dagster_offload.errors import SettingsError
from dagster_offload.host.ownership import me, stranger

# In place of a line of the password file: no attempt is its password.
UNUSABLE = "unusable"
MIN_LENGTH = 8
MAX_LENGTH = 1024

# 16 MiB and about a tenth of a second for each attempt (OWASP, Password Storage Cheat Sheet).
N, R, P = 16_384, 8, 5
_PREFIX = f"scrypt:{N}:{R}:{P}"


def hash_password(password: str) -> str:
    """The line for the password file. Raises `SettingsError` if the password is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise SettingsError(f"a password for the UI has {MIN_LENGTH} to {MAX_LENGTH} characters: choose another one")
    salt = secrets.token_bytes(16)
    return f"{_PREFIX}:{_encoded(salt)}:{_encoded(_scrypt(password, salt))}"


def is_password(line: str, attempt: str) -> bool:
    """Whether `attempt` is the password of this line. Takes about a tenth of a second, and the same time for each attempt."""
    if len(attempt) > MAX_LENGTH or line == UNUSABLE:
        return False
    salt, digest = _parsed(line)
    return hmac.compare_digest(_scrypt(attempt, salt), digest)


def read_password_file(file: Path) -> str:
    """The line of the password file. Raises `SettingsError` if it cannot be used; the message never shows its content."""
    line = ""
    try:
        with file.open(encoding="ascii") as opened:
            reason = stranger(os.fstat(opened.fileno()), me())
            line = opened.read(4096).strip()
        _parsed(line)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except ValueError:
        reason = "is not a password file: it has no scrypt hash"
    if reason is not None:
        raise SettingsError(f"OFFLOAD_UI_PASSWORD_FILE: {file} {reason}. Create one with `dagster-offload password`")
    return line


def write_password_file(file: Path, line: str) -> None:
    """Replace the file in one step. Only its owner can read it. Raises `SettingsError`."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as written:
                written.write(line + "\n")
            os.replace(name, file)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise SettingsError(f"the password file {file} cannot be written: {error.strerror}") from error


def _parsed(line: str) -> tuple[bytes, bytes]:
    """The salt and the hash. Raises `ValueError`."""
    start, _, rest = line.partition(f"{_PREFIX}:")
    salt, _, digest = rest.partition(":")
    if start or not salt or not digest:
        raise ValueError("not a line of this program")
    try:
        return base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=N, r=R, p=P, dklen=32, maxmem=64 * 1024 * 1024)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
