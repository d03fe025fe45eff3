"""A secret that is given as such, or as a file that contains it."""

from pathlib import Path

from pydantic import SecretStr

from dagster_offload.errors import SettingsError


def secret_from(given: SecretStr | None, file: Path | None, setting: str, file_setting: str) -> str | None:
    """The secret without the blanks around it in its file; None if neither is set. It may be empty.

    Raises `SettingsError`, which names the settings, if both are set or the file cannot be read.
    """
    if file is None:
        return None if given is None else given.get_secret_value()
    refuse_both(given, file, setting, file_setting)
    try:
        return file.read_text(encoding="utf-8-sig").strip()  # editors of Windows begin a file with U+FEFF
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{file_setting}: {file} cannot be read: {reason}") from None


def refuse_both(given: object, file: Path | None, setting: str, file_setting: str) -> None:
    """Raise `SettingsError` if a secret is given as such and as a file."""
    if given is not None and file is not None:
        raise SettingsError(f"{setting} and {file_setting} are both set: remove one")
