"""The section `notify`: what it accepts, and errors with their place and the nearest right word."""

from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.notify.build import build
from dagster_offload.settings import load_settings
from dagster_offload.settings.sections.notify import CHANNEL_KINDS, EVENTS, EmailChannel
from dagster_offload.settings.sections.recipients import kind_of


def write(folder: Path, channels: str, mode: int = 0o600) -> Path:
    file = folder / "offload.yaml"
    file.write_text(f"notify:\n  {channels}\n", encoding="utf-8")
    file.chmod(mode)
    return file


def test_the_key_of_a_channel_says_its_kind(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "a: {command: notify-me}\n  b: {webhook: 'http://h/x'}\n  c: {ntfy: 'https://ntfy.sh/t', events: 'done, away'}\n"
        "  d: {email: me@example.org, server: mail.example.org, user: me, password_file: keys/mail}\n",
    )
    channels = load_settings(config=file).channels
    assert [kind_of(channel, CHANNEL_KINDS) for channel in channels.values()] == ["command", "webhook", "ntfy", "email"]
    assert (channels["a"].events, channels["c"].events) == (EVENTS, ("done", "away"))
    mail = channels["d"]
    assert isinstance(mail, EmailChannel)
    assert mail.password_file == tmp_path / "keys" / "mail"


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        ("phone: {ntfi: 'https://ntfy.sh/t'}", "did you mean ntfy?"),
        ("phone: {ntfy: 'https://ntfy.sh/t', token_fiel: x}", "did you mean token_file?"),
        ("phone: {ntfy: 'https://ntfy.sh/t', events: [finished]}", "notify.phone.events"),
        ("phone: {ntfy: 'https://ntfy.sh/t', events: []}", "notify.phone.events"),
        ("phone: {ntfy: 'https://ntfy.sh/t', away_days: 0}", "notify.phone.away_days"),
        ("Phone: {command: a}", "a channel's name has at most 40 lower-case letters"),
        ("mail: {email: nobody, server: mail}", "notify.mail.email"),
        ("mail: {email: a@b, server: 'smtp://mail'}", "notify.mail.server"),
        ("mail: {email: a@b, server: 'localhost:2525'}", "notify.mail.server"),
        (
            "mail: {email: a@b, server: 'localhost:2525'}",
            "a host name without a port: write server: localhost, port: 2525",
        ),
        ("mail: {email: a@b, server: '[::1]:25'}", "a host name without a port: write server: '::1', port: 25"),
        ("mail: {email: a@b, server: mail, security: none, user: me, password: x}", "the password would be readable"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, channel: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(config=write(tmp_path, channel))
    assert message in str(caught.value)


def test_the_server_of_a_mailbox_may_be_an_ipv6_address(tmp_path: Path) -> None:
    mail = load_settings(config=write(tmp_path, "mail: {email: a@b, server: '::1'}")).channels["mail"]
    assert isinstance(mail, EmailChannel)
    assert mail.server == "::1"


def test_a_password_in_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    channel = "mail: {email: a@example.org, server: mail, user: me, password: plain-secret}"
    with pytest.raises(SettingsError) as caught:
        load_settings(config=write(tmp_path, channel, 0o644))
    assert "notify.mail.password contains a secret" in str(caught.value)
    assert "plain-secret" not in str(caught.value)
    assert "plain-secret" not in repr(load_settings(config=write(tmp_path, channel)))


@pytest.mark.parametrize(("keys", "missing"), [("user: me", "a password"), ("password: x", "a user")])
def test_half_a_log_in_is_named(tmp_path: Path, keys: str, missing: str) -> None:
    settings = load_settings(config=write(tmp_path, f"mail: {{email: a@example.org, server: mail, {keys}}}"))
    with pytest.raises(SettingsError, match=f"notify.mail needs {missing}"):
        build(settings, "mail")
