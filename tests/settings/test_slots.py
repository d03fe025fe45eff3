"""The settings of a slot's hours, minutes and wakes: what is accepted, and how a mistake is named with its place."""

from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.settings import load_settings
from dagster_offload.slot.waking import WakeConfig

SLOT = "slots:\n  deep:\n    url: http://macbook.local:8890\n    model: m\n"


@pytest.fixture(autouse=True)
def home(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OFFLOAD_CONFIG", str(tmp_path / "offload.yaml"))
    monkeypatch.chdir(tmp_path)


def written(text: str) -> None:
    Path("offload.yaml").write_text(SLOT + text, encoding="utf-8")


def refused() -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value).replace(str(Path.cwd()) + "/", "")


def test_hours_minutes_and_wakes_are_read_from_the_file() -> None:
    written(
        '    hours: "22:00-07:00, sat-sun"\n    minutes_a_day: 240\n'
        "    wake: {command: [/usr/local/bin/wake, macbook], times_a_day: 5}\n"
    )
    deep = load_settings().slots.deep
    assert deep is not None
    assert (str(deep.hours), deep.minutes_a_day) == ("22:00-07:00, sat-sun", 240)
    assert deep.wake == WakeConfig(command=("/usr/local/bin/wake", "macbook"), times_a_day=5)


def test_without_them_a_slot_has_no_limits_and_is_never_woken() -> None:
    written("    hours:\n    wake:\n")
    deep = load_settings().slots.deep
    assert deep is not None
    assert (deep.hours, deep.minutes_a_day, deep.wake) == (None, None, None)


def test_variables_override_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    written('    hours: "22:00-07:00"\n    wake: {mac: "a4:83:e7:01:23:45"}\n')
    monkeypatch.setenv("OFFLOAD_DEEP_HOURS", "sat-sun")
    monkeypatch.setenv("OFFLOAD_DEEP_WAKE_ADDRESS", "192.168.1.255")
    deep = load_settings().slots.deep
    assert deep is not None
    assert str(deep.hours) == "sat-sun"
    assert deep.wake == WakeConfig(mac="a4:83:e7:01:23:45", address="192.168.1.255")


@pytest.mark.rule("rest-3")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('hours: "25:00-07:00"', "offload.yaml:5:12: slots.deep.hours: '25:00' is not a time of day: 00:00 to 24:00"),
        ("hours: 22", "offload.yaml:5:12: slots.deep.hours"),
        ("hours: [sat, sun]", "offload.yaml:5:12: slots.deep.hours"),
        ("minutes_a_day: 0", "offload.yaml:5:20: slots.deep.minutes_a_day: must be at least 1"),
        ("wake: {mac: macbook}", "offload.yaml:5:17: slots.deep.wake.mac: must be six bytes in hexadecimal"),
        ('wake: {mac: "a4:83:e7:01:23:45", command: [x]}', "slots.deep.wake: has both `command` and `mac`: set one"),
        ("wake: {times_a_day: 1000}", "slots.deep.wake.times_a_day: must be at most 24"),
        ("wake: {comand: [x]}", "did you mean command?"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, said: str) -> None:
    written(f"    {text}\n")
    assert said in refused()


@pytest.mark.rule("rest-3")
def test_a_mistake_in_a_variable_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    written("")
    monkeypatch.setenv("OFFLOAD_DEEP_HOURS", "nights")
    said = refused()
    assert "OFFLOAD_DEEP_HOURS: 'nights' is not a window: write times, days, or both" in said
    assert said.count("'nights'") == 1
