"""A wrong value is named with its variable, what is allowed, and the value itself unless it may be a secret."""

from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.settings import load_settings
from dagster_offload.settings.leaves import LEAVES


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OFFLOAD_DEEP_CONCURRENCY", "banana", "must be a whole number or 'auto' (it is 'banana')"),
        ("OFFLOAD_DEEP_CONCURRENCY", "99999", "must be at most 512 or 'auto' (it is '99999')"),
        ("OFFLOAD_SCAN_INTERVAL", "soon", "must be a number (it is 'soon')"),
        ("OFFLOAD_SCAN_INTERVAL", "-1", "must be at least 1 (it is '-1')"),
        ("OFFLOAD_OCR", "maybe", "must be 'auto' or 'off' (it is 'maybe')"),
        ("OFFLOAD_MAX_FILE_SIZE", "big", "must be a size: 512 MiB, 2 GB, or a number of bytes (it is 'big')"),
        ("OFFLOAD_LIBRARY_CROSS_MOUNTS", "perhaps", "must be true or false (it is 'perhaps')"),
        ("OFFLOAD_KEEP_HISTORY_DAYS", "1.5", "must be a whole number (it is '1.5')"),
        ("OFFLOAD_BACKUP_EVERY", "never", "30m, 12h, 1d or 1w (it is 'never')"),
        (
            "OFFLOAD_PARTITION_BY",
            "shard:2001",
            "write document, folder, month, or shard:N with N from 1 to 2000 (it is 'shard:2001')",
        ),
        ("OFFLOAD_DEEP_URL", "ftp://x", "must start with http:// or https://, followed by a host (it is 'ftp://x')"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load_settings(home=tmp_path)
    assert str(refused.value).startswith(f"{variable}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize("value", ["s3cret", "ftp://me:s3cret@host", "s3cret" * 20])
def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    for leaf in LEAVES:
        if leaf.is_secret or (leaf.key[-1] == "url" and "@" in value):
            assert "s3cret" not in refusal(monkeypatch, tmp_path, leaf.variable, value), leaf.variable


def test_no_message_is_a_librarys_raw_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for leaf in LEAVES:
        for value in ("banana", "-7", "1e400", "nan", "{x", "("):
            message = refusal(monkeypatch, tmp_path, leaf.variable, value)
            for raw in ("Input should", "unable to", "Value error", "could not", "pydantic"):
                assert raw not in message, (leaf.variable, value)


def refusal(monkeypatch: pytest.MonkeyPatch, home: Path, variable: str, value: str) -> str:
    """The message about a variable with this value; empty if the value is accepted."""
    with monkeypatch.context() as changed:
        changed.setenv(variable, value)
        try:
            load_settings(home=home)
        except SettingsError as error:
            return str(error)
    return ""
