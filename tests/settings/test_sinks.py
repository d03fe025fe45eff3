"""The section `on_record`: what it accepts, and errors with their place and the nearest right word."""

from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.notify.build import build as build_channel
from dagster_offload.settings import load_settings
from dagster_offload.settings.sections.recipients import kind_of, secret_of
from dagster_offload.settings.sections.sinks import SINK_KINDS, CommandSettings, PaperlessSettings, WebhookSettings
from dagster_offload.settings.sections.unset import incomplete
from dagster_offload.sinks.build import build


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "offload.yaml"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_the_key_of_a_sink_says_its_kind(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "on_record:\n  a: {command: 'file-it --quiet'}\n  b: {webhook: 'http://h/x', token_file: keys/hook}\n"
        "  c: {paperless: 'http://p', token: secret-1, custom_fields: {Amount: category}}\n",
    )
    sinks = load_settings(config=file).sinks
    assert [kind_of(sink, SINK_KINDS) for sink in sinks.values()] == ["command", "webhook", "paperless"]
    a, b, c = sinks.values()
    assert isinstance(a, CommandSettings)
    assert isinstance(b, WebhookSettings)
    assert isinstance(c, PaperlessSettings)
    assert a.command == ("file-it", "--quiet")
    assert b.token_file == tmp_path / "keys" / "hook"
    assert (secret_of("c", c, "token"), "secret-1" in repr(c)) == ("secret-1", False)


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        (
            "hook: {webhook: 'http://h/x', secrte: abc}",
            "2:41: on_record.hook.secrte: a webhook sink has no key 'secrte'",
        ),
        ("hook: {webhok: 'http://h/x'}", "did you mean webhook?"),
        ("hook: {webhook: 'http://h', command: a}", "exactly one of the keys"),
        ("Hook: {command: a}", "lower-case letters"),
        ("hook: {command: a, timeout: x}", "on_record.hook.timeout"),
        ("hook: {command: []}", "on_record.hook.command"),
        ("hook: {webhook: 'ftp://h'}", "must start with http://"),
        ("hook: file-it", "must be a section"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, sink: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(config=write(tmp_path, f"on_record:\n  {sink}\n"))
    assert message in str(caught.value)


@pytest.mark.parametrize("keys", ["webhook: '${UNSET}'", "webhook: 'http://h/x', secret: 'a${UNSET}'"])
@pytest.mark.parametrize("section", ["on_record", "notify"])
def test_a_variable_that_is_not_set_is_missed_only_when_its_sink_or_channel_is_built(
    tmp_path: Path, section: str, keys: str
) -> None:
    settings = load_settings(config=write(tmp_path, f"{section}:\n  hook: {{{keys}}}\n"))
    [found] = incomplete(settings)
    assert (found.name, found.variable.place.startswith(f"{tmp_path / 'offload.yaml'}:2:")) == ("hook", True)
    with pytest.raises(SettingsError, match="the variable UNSET is not set") as caught:
        (build if section == "on_record" else build_channel)(settings, "hook")
    assert f"in .env in the folder in which the command runs ({Path.cwd()})" in str(caught.value)


def test_a_variable_that_is_not_set_in_another_key_of_a_sink_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"on_record\.file\.command\.1: the variable UNSET is not set"):
        load_settings(config=write(tmp_path, "on_record:\n  file: {command: [file-it, '${UNSET}']}\n"))


@pytest.mark.rule("pipeline-3")
@pytest.mark.parametrize("key", ["secret: plain-secret", "token: plain-secret"])
def test_a_plain_secret_in_a_file_that_others_can_read_is_refused(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="contains a secret") as caught:
        load_settings(config=write(tmp_path, f"on_record:\n  hook: {{webhook: 'http://h/x', {key}}}\n", 0o644))
    assert "plain-secret" not in str(caught.value)
    monkeypatch.setenv("HOOK_SECRET", "from-the-environment")
    name = key.partition(":")[0]
    file = write(tmp_path, f"on_record:\n  hook: {{webhook: 'http://h/x', {name}: '${{HOOK_SECRET}}'}}\n", 0o644)
    assert secret_of("hook", load_settings(config=file).sinks["hook"], name) == "from-the-environment"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("token: a, title: titel", "on_record.p.title: records have no column 'titel': did you mean title?"),
        ("title: title", "needs a token"),
        ("token: a, token_file: /nowhere", "both set"),
        ("token_file: /nowhere/key", "/nowhere/key cannot be read"),
    ],
)
def test_a_sink_that_cannot_be_built_says_why(tmp_path: Path, keys: str, message: str) -> None:
    loaded = load_settings(config=write(tmp_path, f"on_record:\n  p: {{paperless: 'http://p', {keys}}}\n"))
    with pytest.raises(SettingsError) as caught:
        build(loaded, "p")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "content", "message"),
    [
        ("token", "", "token_file: {file} is empty"),
        ("token", " \n", "token_file: {file} is empty"),
        ("token", "sécret", "on_record.p.token contains characters that are not allowed in an HTTP header"),
        ("token", "two\nlines", "on_record.p.token contains characters that are not allowed in an HTTP header"),
        ("secret", "", "secret_file: {file} is empty"),
        ("secret", "whsec_", "a webhook's secret is empty"),
    ],
)
def test_a_file_without_a_usable_secret_is_refused(tmp_path: Path, key: str, content: str, message: str) -> None:
    (file := tmp_path / "key").write_text(content, encoding="utf-8")
    loaded = load_settings(config=write(tmp_path, f"on_record:\n  p: {{webhook: 'http://p', {key}_file: {file}}}\n"))
    with pytest.raises(SettingsError) as caught:
        build(loaded, "p")
    assert message.format(file=file) in str(caught.value)
    assert "sécret" not in str(caught.value)


def test_a_file_that_begins_with_the_mark_of_windows_editors_holds_the_secret_after_it(tmp_path: Path) -> None:
    (file := tmp_path / "key").write_text("\ufeffsecret-1\r\n", encoding="utf-8")
    loaded = load_settings(config=write(tmp_path, f"on_record:\n  p: {{webhook: 'http://p', token_file: {file}}}\n"))
    assert secret_of("on_record.p", loaded.sinks["p"], "token") == "secret-1"
