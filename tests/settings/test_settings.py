"""Settings: one function reads the environment, and an error names the variable with the wrong value."""

from datetime import timedelta
from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.settings import load_settings
from dagster_offload.slot.config import without_password
from dagster_offload.stages.catalog import recipes


def test_without_settings_no_slot_is_configured() -> None:
    settings = load_settings()
    assert settings.slots.deep is None
    assert settings.slots.primary is None
    assert settings.home.is_absolute()


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_a_url_is_accepted_with_or_without_v1_and_the_path_of_completions(path: str) -> None:
    deep = load_settings(deep_url=f"http://macbook.local:8890{path}", deep_model="qwen-macbook").slots.deep
    assert deep is not None
    assert deep.url == "http://macbook.local:8890"


@pytest.mark.parametrize("end", ["?api-version=preview", "/v1?key=sesame-1", "/v1?", "/v1#sesame-1"])
def test_a_url_with_a_query_or_a_fragment_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setenv("OFFLOAD_DEEP_URL", f"http://gpu.example:8890{end}")
    with pytest.raises(SettingsError, match=r"OFFLOAD_DEEP_URL: must end before \? or #") as refused:
        load_settings(deep_model="m")
    assert "sesame" not in str(refused.value)


def test_a_url_without_a_model_names_the_missing_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_DEEP_URL", "http://macbook.local:8890")
    with pytest.raises(SettingsError, match="OFFLOAD_DEEP_MODEL"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OFFLOAD_DEEP_URL", "macbook.local:8890"),
        ("OFFLOAD_DEEP_URL", "http://127.0.0.1:99999"),
        ("OFFLOAD_DEEP_URL", "http://127.0.0.1:0"),
        ("OFFLOAD_DEEP_URL", "http://[::1"),
        ("OFFLOAD_DEEP_URL", "http://:80"),
        ("OFFLOAD_PRIMARY_URL", "http://host:port"),
        ("OFFLOAD_DEEP_CONCURRENCY", "0"),
        ("OFFLOAD_DEEP_CONCURRENCY", "many"),
        ("OFFLOAD_DEEP_EXPECTED_MODEL", "Qwen(3"),
        ("OFFLOAD_DEEP_READ_TIMEOUT", "-1"),
        ("OFFLOAD_BACKUP_EVERY", "daily"),
        ("OFFLOAD_BACKUP_EVERY", "0d"),
        ("OFFLOAD_BACKUP_EVERY", "99999999w"),
        ("OFFLOAD_BACKUP_KEEP", "0"),
    ],
)
def test_the_error_for_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


@pytest.mark.parametrize(("value", "read"), [("auto", "auto"), ("512", 512)])
def test_concurrency_is_a_number_or_auto(monkeypatch: pytest.MonkeyPatch, value: str, read: object) -> None:
    monkeypatch.setenv("OFFLOAD_DEEP_CONCURRENCY", value)
    deep = load_settings(deep_url="http://h:1", deep_model="m").slots.deep
    assert deep is not None
    assert deep.concurrency == read


def test_settings_are_read_from_a_dotenv_file_and_the_environment_overrides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("OFFLOAD_DEEP_URL=http://from-file:1\nOFFLOAD_DEEP_MODEL=from-file\n")
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "from-environment")
    deep = load_settings().slots.deep
    assert deep is not None
    assert (deep.url, deep.model) == ("http://from-file:1", "from-environment")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "JSON object"),
        ("[1]", "JSON object"),
        ('{"x": NaN}', "JSON object"),
        ('{"model": "x", "stream": true, "secret": 1}', "model, stream"),
    ],
)
def test_an_invalid_extra_body_is_refused_and_its_values_are_not_shown(body: str, message: str) -> None:
    for slot in ("deep", "primary"):
        with pytest.raises(SettingsError, match=f"OFFLOAD_{slot.upper()}_EXTRA_BODY") as raised:
            load_settings(**{f"{slot}_extra_body": body})
        assert message in str(raised.value)
        assert "secret" not in str(raised.value)


def test_a_changed_extra_body_changes_the_fingerprint_and_the_recipes_of_stages_of_one_slot() -> None:
    plain, extra = (
        {"deep_url": "http://x:1", "deep_model": "m", **more} for more in ({}, {"deep_extra_body": '{"a": 1}'})
    )
    before, after = load_settings(**plain), load_settings(**extra)
    assert before.slots.deep is not None
    assert after.slots.deep is not None
    assert dict(after.slots.deep.extra_body) == {"a": 1}
    assert before.slots.deep.fingerprint != after.slots.deep.fingerprint
    assert recipes(before)["summarize"] != recipes(after)["summarize"]
    either = {"any_stages": "classify"}
    assert (
        recipes(load_settings(**plain, **either))["classify"] == recipes(load_settings(**extra, **either))["classify"]
    )


def test_no_password_of_a_url_shows_in_any_repr() -> None:
    urls = {f"{slot}_url": "https://me:s3cret@gpu.example:8443/llm" for slot in ("deep", "primary")}
    settings = load_settings(**urls, deep_model="m", primary_model="m")
    assert settings.slots.deep is not None
    assert settings.slots.deep.url == urls["deep_url"], "requests still carry it"
    for shown in (repr(settings), repr(settings.slots), str(settings.slots.deep)):
        assert "s3cret" not in shown
        assert "me:" not in shown
    assert "https://gpu.example:8443/llm" in repr(settings.slots.deep)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host:8890", "http://host:8890"),
        ("http://me@host/llm", "http://host/llm"),
        ("http://me:pa%40ss@[fe80::1]:8890/llm?v=2", "http://[fe80::1]:8890/llm?v=2"),
        ("http://me:p@ss@host", "http://host"),
        ("http://host:8890/@acme/llm", "http://host:8890/@acme/llm"),
        # These URLs do not work, so error messages are likely to show them.
        ("http://me:pa/ss@host", "http://host"),
        ("http://me:pa#ss@host", "http://host"),
        ("http://me:[pa@host", "http://host"),
    ],
)
def test_a_url_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_url_that_its_password_makes_invalid_is_refused_without_showing_the_password() -> None:
    with pytest.raises(SettingsError, match="OFFLOAD_DEEP_URL") as refused:
        load_settings(deep_url="http://me:pa/ss@host", deep_model="m")
    assert "pa" not in str(refused.value).replace("port", "")


def test_no_key_shows_in_any_repr() -> None:
    settings = load_settings(
        deep_url="http://x:1",
        deep_model="m",
        deep_api_key="sk-secret",
        postgres_url="postgresql://u:sk-secret@h/d",
        deep_extra_body='{"key": "sk-secret"}',
    )
    assert "sk-secret" not in repr(settings)
    assert "sk-secret" not in repr(settings.slots)


def test_a_slot_names_the_variable_of_each_field() -> None:
    deep = load_settings(deep_url="http://x:1", deep_model="m").slots.deep
    assert deep is not None
    assert deep.setting("api_key") == "OFFLOAD_DEEP_API_KEY"


@pytest.mark.parametrize(("value", "hours"), [("12h", 12), ("1d", 24), ("1w", 168), (" 30 m ", 0.5)])
def test_an_interval_is_a_number_and_a_unit(monkeypatch: pytest.MonkeyPatch, value: str, hours: float) -> None:
    monkeypatch.setenv("OFFLOAD_BACKUP_EVERY", value)
    assert load_settings().backup.every == timedelta(hours=hours)
