"""Sinks and channels that send a secret over plain HTTP, and a broker that others can use."""

from pathlib import Path

import pytest

from dagster_offload.settings import load_settings
from dagster_offload.settings.sections.exposed import Exposed, exposed, exposed_broker


def found(folder: Path, section: str, entry: str) -> list[Exposed]:
    home = folder / "home"
    home.mkdir(mode=0o700)
    file = home / "offload.yaml"
    file.write_text(f"{section}:\n  hook: {entry}\n")
    file.chmod(0o600)
    return list(exposed(load_settings(home=home)))


@pytest.mark.parametrize(
    ("section", "entry", "words"),
    [
        ("on_record", "{webhook: 'http://laptop/path', token: s3cret}", "its token is sent to laptop unencrypted"),
        ("on_record", "{webhook: 'http://laptop:1/path', token_file: /s3cret}", "its token is sent to laptop"),
        ("on_record", "{webhook: 'http://me:s3cret@laptop/path'}", "its password is sent to laptop"),
        (
            "on_record",
            "{webhook: 'http://192.168.1.7/path', secret: s3cret}",
            "its signed records are sent to 192.168.1.7",
        ),
        (
            "on_record",
            "{paperless: 'http://paperless.local:8000', token: s3cret}",
            "its token is sent to paperless.local",
        ),
        ("notify", "{webhook: 'http://laptop/path', secret_file: /s3cret}", "its signed messages are sent to laptop"),
        ("notify", "{ntfy: 'http://ntfy.local/path', token: s3cret}", "its token is sent to ntfy.local unencrypted"),
    ],
)
def test_a_secret_over_plain_http_beyond_loopback_is_found(
    section: str, entry: str, words: str, tmp_path: Path
) -> None:
    [only] = found(tmp_path, section, entry)
    assert only.found.startswith(words)
    assert only.setting == f"{section}.hook.{entry[1:].partition(':')[0]}"
    assert only.noun == {"on_record": "sink", "notify": "channel"}[section]
    assert "s3cret" not in str(only)
    assert "/path" not in str(only)


@pytest.mark.parametrize(
    ("section", "entry"),
    [
        ("on_record", "{webhook: 'https://laptop/path', token: s3cret, secret: s3cret}"),
        ("on_record", "{webhook: 'http://127.0.0.1:8080/path', token: s3cret}"),
        ("on_record", "{webhook: 'http://localhost/path', secret: s3cret}"),
        ("on_record", "{paperless: 'http://[::1]:8000', token: s3cret}"),
        ("on_record", "{webhook: 'http://laptop/path'}"),
        ("on_record", "{command: [/usr/bin/true]}"),
        ("notify", "{ntfy: 'https://ntfy.sh/topic', token: s3cret}"),
        ("notify", "{email: me@example.org, server: mail.local, user: me, password: s3cret}"),
    ],
)
def test_what_no_one_else_can_read_is_not_found(section: str, entry: str, tmp_path: Path) -> None:
    assert found(tmp_path, section, entry) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("redis://box:6379/0", "no password: all who can reach box can run code as its workers"),
        ("redis://127.0.0.1:6379/0", "no password: all who can reach 127.0.0.1 can run code"),
        ("rediss://box:6379/0", "no password: all who can reach box can run code"),
        ("redis://:s3cret@box:6379/0", "its password and that of Postgres are sent to box unencrypted"),
        ("redis://me:s3cret@192.168.1.7:6379/0", "its password and that of Postgres are sent to 192.168.1.7"),
        ("redis://:s3cret@127.0.0.1:6379/0", None),
        ("rediss://:s3cret@box:6379/0", None),
        ("rediss://box:6379/0?ssl_certfile=/etc/mine.pem&ssl_keyfile=/etc/mine.key", None),
    ],
)
def test_a_broker_that_others_can_use_or_read_is_found(address: str, words: str | None) -> None:
    broker = exposed_broker(load_settings(celery_broker=address))
    assert (None if broker is None else broker.found.startswith(words or "")) == (None if words is None else True)
    assert "s3cret" not in str(broker)


def test_a_broker_that_others_can_use_is_among_what_doctor_reports() -> None:
    [only] = exposed(load_settings(celery_broker="redis://box:6379/0"))
    assert (only.noun, only.setting) == ("broker", "celery.broker")
    assert "OFFLOAD_CELERY_BROKER" in only.advice
