"""`dagster-offload notify list|test|send`: who is notified of what."""

from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from dagster_offload.cli import HintingGroup
from dagster_offload.cli.exits import EXIT_CODE_OF_FAULT, ExitCode, Refusal
from dagster_offload.cli.in_force import read_in_force
from dagster_offload.cli.options import home_option, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.ledger.sinks.notifications import ChannelRow
    from dagster_offload.settings import Settings

HOW_TO_ADD = "add one under notify in the pipeline file (docs/running-for-years.md)"


@click.group("notify", cls=HintingGroup)
def command() -> None:
    """Show and test the channels of the pipeline file (`notify`), or send what is due.

    A running `up` notifies by itself. Without one, use `notify send`.

    \b
    dagster-offload notify list
    dagster-offload notify test phone
    dagster-offload notify send
    """


@command.command("list")
@home_option
@json_option
def list_(*, as_json: bool) -> None:
    """Show every channel, its events, and how many messages were sent or wait.

    \b
    dagster-offload notify list --json
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.core.opening import open_ledger_as_it_is
    from dagster_offload.ledger.sinks import notifications
    from dagster_offload.settings.sections.notify import CHANNEL_KINDS
    from dagster_offload.settings.sections.recipients import kind_of
    from dagster_offload.settings.sections.unset import missing_in, unset_beside, unset_in

    settings = read_in_force().settings
    unset = unset_in(settings.channels)
    with open_ledger_as_it_is(settings) as ledger:
        rows = ledger.run(notifications.list_channels, list(settings.channels))
    if as_json:
        print_json({"channels": [asdict(row) | {"unset": missing_in(unset, row.name)} for row in rows]})
        return
    for row in rows:
        channel, here = settings.channels[row.name], unset_beside(row.reason, unset, row.name)
        say(
            f"{row.name:<16} {kind_of(channel, CHANNEL_KINDS):<8} {describe(row)}; events: {', '.join(channel.events)}{here}"
        )
    if not rows:
        click.echo(f"no channels: {HOW_TO_ADD}")


@command.command("test")
@click.argument("name")
@home_option
@json_option
def test(name: str, *, as_json: bool) -> None:
    """Send a test message through a channel, marked as a sample.

    \b
    dagster-offload notify test phone
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.notify.build import build
    from dagster_offload.notify.channel_message import sample
    from dagster_offload.settings import load_settings
    from dagster_offload.sinks.faults import SinkFault

    settings = load_settings()
    _refuse_unknown(settings, name)
    channel = build(settings, name)
    try:
        channel.send(sample(name))
    except SinkFault as fault:
        raise Refusal(f"{name}: {fault.reason}", EXIT_CODE_OF_FAULT[fault.blame]) from None
    if as_json:
        print_json({"channel": name, "is_taken": True})
    else:
        click.echo(f"{name}: the test message was taken")


@command.command("send")
@home_option
@json_option
def send(*, as_json: bool) -> None:
    """Look at the ledger once and send the messages that are due. For homes without a running `up`.

    Exit codes: 0 = everything due was sent; 75 = messages wait: a channel or Postgres is unavailable, or the next try is not
    due yet; 78 = a channel refuses a setting, such as its token; 2 = a setting of a channel cannot be used on this machine.
    A channel that waits for a changed setting is tried at once.
    Messages are kept. `notify list` shows why they wait.

    \b
    dagster-offload notify send
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.ledger.sinks import notifications
    from dagster_offload.settings import load_settings

    settings = load_settings()
    names = list(settings.channels)
    with open_existing_ledger(settings) as ledger:
        ledger.run(notifications.register, names)
        sent, faults = _send_all(settings, ledger, names)
        rows = ledger.run(notifications.list_channels, names)
    for row in rows if not as_json else ():
        reason = None if row.name in faults else row.reason  # the fault is printed below
        say(f"{row.name}: {describe(replace(row, sent=sent[row.name], reason=reason))}")
    done = {"channels": [asdict(row) for row in rows]}
    if faults:
        first, *more = faults.values()
        raise Refusal(first, more=more, done=done)
    if as_json:
        print_json(done)
    if any(row.waiting and row.is_misconfigured for row in rows):
        raise click.exceptions.Exit(ExitCode.MISCONFIGURED)
    if any(row.waiting for row in rows):
        raise click.exceptions.Exit(ExitCode.UNAVAILABLE)


def _send_all(
    settings: "Settings", ledger: "Ledger", names: "Sequence[str]"
) -> "tuple[dict[str, int], dict[str, str]]":
    """Send what is due. Returns how many messages were sent, and which settings are wrong here, by channel."""
    from dagster_offload.ledger.sinks import notifications
    from dagster_offload.notify.build import build
    from dagster_offload.notify.look import look
    from dagster_offload.notify.sender import lock_name, send_due
    from dagster_offload.sinks.recipient import built
    from dagster_offload.sinks.sender import only_sender

    sent, faults = dict.fromkeys(names, 0), {}
    for name in names:
        channel, wrong = built(partial(build, settings, name))
        if wrong is not None:  # its messages wait with that reason, and the other channels get theirs
            faults[name] = str(wrong)
        with only_sender(ledger, lock_name(name)) as is_only_sender:
            if not is_only_sender:
                click.echo(f"{name}: the running `up` notifies", err=True)
                continue
            look(ledger, name, settings)
            ledger.run(notifications.end_wait_for_setting, name)
            sent[name] = send_due(ledger, name, channel)
    return sent, faults


def _refuse_unknown(settings: "Settings", name: str) -> None:
    from dagster_offload.text.suggestions import no_such

    if name not in settings.channels:
        raise Refusal(no_such("channel", name, settings.channels, HOW_TO_ADD))


def describe(row: "ChannelRow") -> str:
    """What was sent and what waits, and why: `3 sent; 1 waiting (HTTP 503, next try 14:02)`."""
    from dagster_offload.cli.formatting import describe_time

    parts = [f"{row.sent} sent"]
    if row.waiting:
        next_try = f", next try {describe_time(row.not_before)}" if row.not_before else ""
        parts.append(f"{row.waiting} waiting" + (f" ({row.reason}{next_try})" if row.reason else ""))
    if row.dead:
        parts.append(f"{row.dead} given up")
    return "; ".join(parts)


def status_lines(rows: "Sequence[ChannelRow]") -> list[str]:
    """The lines of `status` about channels whose messages wait: none if all is well."""
    waiting = [row for row in rows if row.waiting]
    return [f"{'notify' if index == 0 else '':<8} {row.name}: {describe(row)}" for index, row in enumerate(waiting)]
