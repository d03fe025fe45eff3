"""`dagster-offload doctor`: test a slot step by step, as you would with curl, and name the setting to change."""

import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.exits import ExitCode
from dagster_offload.cli.in_force import read_in_force_and_warning
from dagster_offload.cli.options import deep_options, home_option, json_option, slot_names
from dagster_offload.text.plain_text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dagster_offload.client.check import Check


@click.command("doctor")
@click.argument("slot", required=False)
@home_option
@deep_options
@json_option
def command(slot: str | None, *, as_json: bool) -> None:
    """Test a slot (the deep slot if none is named) step by step: name, connection, health, a few short completions.

    Shows which model answered and how reliable that is, how fast it is, and how requests ask for JSON and turn thinking
    off. The last line names the setting to change.

    Exit codes: 0 = the slot works; 75 = the slot or the Postgres of the ledger is unavailable; 78 = a setting is wrong, the
    model answers without JSON, the slot holds a stage, or an edit of the pipeline file is not valid and the settings before
    it were tested; 2 = no slot is configured, or the ledger cannot be used and the slot was not called.

    \b
    dagster-offload doctor
    dagster-offload doctor studio
    dagster-offload doctor --deep-url http://macbook.local:8890 --deep-model qwen-macbook
    """
    from dagster_offload.cli.formatting import print_check, print_json
    from dagster_offload.client.check import advice_of, other_advice
    from dagster_offload.engine.slot.checkup import checkup
    from dagster_offload.errors import SettingsError
    from dagster_offload.slot.config import variable

    loaded, fault = read_in_force_and_warning()
    settings = loaded.settings
    (name, *_) = slot_names(settings, slot)
    chosen = settings.slots.for_prompt() if slot is None else settings.slots.named(name)
    if chosen is None:
        if slot is not None:
            raise SettingsError(f"the slot {name} is not configured: set {variable(name, 'url')}")
        raise SettingsError(
            "no slot is configured: set OFFLOAD_DEEP_URL=http://HOST:8890 and OFFLOAD_DEEP_MODEL to an alias of your router"
        )
    chosen.require_key()
    checks = []
    of_slot = checkup(settings, chosen, on_wait=_ignore_wait if as_json else _print_wait)
    for check in itertools.chain(_of_settings(fault), of_slot):
        checks.append(check)
        if not as_json:
            print_check(check.name, check.found, is_ok=check.ok, width=12)
    advice = advice_of(checks)
    exit_code = _exit_code(checks) if fault is None else ExitCode.MISCONFIGURED
    if as_json:
        print_json({"ok": exit_code is ExitCode.OK, "advice": advice, "checks": [asdict(check) for check in checks]})
    else:
        click.echo()
        for check_name, other in other_advice(checks):
            click.echo(escaped(f"{check_name}: {other}"))
        click.echo(escaped(advice or "Nothing to change."))
    raise click.exceptions.Exit(exit_code)


def _of_settings(fault: str | None) -> "Iterator[Check]":
    """A failed check if an edit of the settings is not valid: what is tested may not be what the file says."""
    from dagster_offload.client.check import Check

    if fault is not None:
        advice = (
            "correct the edit of the settings, then run this command again: the settings before the edit were tested"
        )
        yield Check("settings", False, fault, advice, is_setting=True, is_about_slot=False)


def _exit_code(checks: "Sequence[Check]") -> ExitCode:
    """That of the slot if one of its checks failed, else that of the ledger, else that of a stage that is held."""
    from dagster_offload.client.check import HELD

    of_slot = [check for check in checks if check.is_about_slot]
    if not of_slot[-1].ok:  # the first that failed ends those of the slot
        is_setting = any(check.is_setting for check in of_slot if not check.ok)
        return ExitCode.MISCONFIGURED if is_setting else ExitCode.UNAVAILABLE
    for check in checks:
        if check.prevents_calls:
            return ExitCode.REFUSED if check.is_setting else ExitCode.UNAVAILABLE
    return ExitCode.MISCONFIGURED if any(check.name == HELD for check in checks) else ExitCode.OK


def _print_wait(seconds: float) -> None:
    click.echo(f"requesting a few short answers; each may take up to {seconds:g} s ...", err=True)


def _ignore_wait(_seconds: float) -> None:
    """Print nothing: with --json the output is one object."""
