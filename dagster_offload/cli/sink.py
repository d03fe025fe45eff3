"""`dagster-offload sink list|test|send|pause|resume`: where finished records are sent."""

from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from dagster_offload.cli import HintingGroup
from dagster_offload.cli.exits import EXIT_CODE_OF_FAULT, ExitCode, Refusal
from dagster_offload.cli.in_force import read_in_force
from dagster_offload.cli.options import home_option, json_option
from dagster_offload.text.counts import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.ledger.sinks.deliveries import DeliveryState
    from dagster_offload.ledger.sinks.sinks import SinkRow
    from dagster_offload.settings import Settings
    from dagster_offload.sinks.sender import Sent

HOW_TO_ADD = "add one under on_record in the pipeline file (docs/sinks.md)"


@click.group("sink", cls=HintingGroup)
def command() -> None:
    """Show, test and pause the sinks of the pipeline file (`on_record`), or send what is due.

    A running `up` sends records by itself. Without one, use `sink send`.

    \b
    dagster-offload sink list
    dagster-offload sink test paperless
    dagster-offload sink send
    dagster-offload sink pause paperless
    dagster-offload retry --sink paperless      records that it refused
    """


@command.command("list")
@home_option
@json_option
def list_(*, as_json: bool) -> None:
    """Show every sink, how many records wait for it, since when, why, and when they are tried again.

    Records of documents with a stage that is not done are counted apart.

    \b
    dagster-offload sink list --json
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.core.opening import open_ledger_as_it_is
    from dagster_offload.ledger.sinks import sinks
    from dagster_offload.settings.sections.recipients import kind_of
    from dagster_offload.settings.sections.sinks import SINK_KINDS
    from dagster_offload.settings.sections.unset import missing_in, unset_beside, unset_in
    from dagster_offload.text.counts import agreeing, counted

    settings = read_in_force().settings
    unset = unset_in(settings.sinks)
    with open_ledger_as_it_is(settings) as ledger:
        rows = ledger.run(sinks.list_sinks)
        waiting = ledger.run(sinks.count_waiting_for_stages)
    if as_json:
        print_json(
            {
                "sinks": [asdict(row) | {"unset": missing_in(unset, row.name)} for row in rows],
                "waiting_for_stages": waiting,
            }
        )
        return
    reasons = {row.name: row.reason for row in rows}
    shown = {
        name: (kind_of(sink, SINK_KINDS), "new: records are sent by `up` or `dagster-offload sink send`")
        for name, sink in settings.sinks.items()
    } | {row.name: (row.kind, describe(row)) for row in rows}
    for name, (kind, words) in shown.items():
        say(f"{name:<16} {kind:<10} {words}{unset_beside(reasons.get(name), unset, name)}")
    if waiting and settings.sinks:
        say(f"{counted(waiting, 'record')} {agreeing('wait', waiting)} until all stages of the document are done")
    if not rows and not settings.sinks:
        click.echo(f"no sinks: {HOW_TO_ADD}")


@command.command("test")
@click.argument("name")
@home_option
@json_option
def test(name: str, *, as_json: bool) -> None:
    """Send an invented sample to a sink, marked as a sample. Paperless: only check the address, the token and the fields.

    \b
    dagster-offload sink test paperless
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.settings import load_settings
    from dagster_offload.sinks.build import build
    from dagster_offload.sinks.faults import SinkFault
    from dagster_offload.sinks.message import sample
    from dagster_offload.sinks.planning import sample_record

    settings = load_settings()
    _refuse_unknown(settings, name)
    sink = build(settings, name)
    try:
        found = sink.test(sample(name, sample_record(settings)))
    except SinkFault as fault:
        raise Refusal(f"{name}: {fault.reason}", EXIT_CODE_OF_FAULT[fault.blame]) from None
    if as_json:
        print_json({"sink": name, "found": found})
    else:
        say(f"{name}: {found}")


@command.command("send")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@home_option
@json_option
def send(names: tuple[str, ...], *, as_json: bool) -> None:
    """Send the records that are due, to all sinks or to these. For homes without a running `up`.

    Exit codes: 0 = everything due was sent, or a running `up` sends it; 75 = records wait: a sink or Postgres is unavailable,
    or the next try is not due yet; 78 = a sink refuses a setting, such as its token; 2 = a setting of a sink cannot be used
    on this machine.
    A sink that waits for a changed setting is tried at once.
    Nothing is lost. `sink list` shows why a sink waits.

    \b
    dagster-offload sink send
    dagster-offload sink send paperless --json
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.ledger.sinks import sinks
    from dagster_offload.service.home import running_up
    from dagster_offload.settings import load_settings

    settings = load_settings()
    for name in names:
        _refuse_unknown(settings, name)
    with open_existing_ledger(settings) as ledger:
        if running_up(settings.home) is not None:
            for name in names or settings.sinks:
                ledger.run(sinks.try_now, name)
            waiting = sum(row.waiting for row in ledger.run(sinks.list_sinks) if row.name in (names or settings.sinks))
            click.echo(
                f"The running `up` sends them: {counted(waiting, 'record')} {agreeing('wait', waiting)} now.", err=True
            )
            done: dict[str, Sent] = {}
            faults: dict[str, str] = {}
        else:
            done, faults = _send_all(settings, ledger, names or tuple(settings.sinks))
        rows = {row.name: row for row in ledger.run(sinks.list_sinks)}
    for name, sent in done.items() if not as_json else ():
        shown = replace(rows[name], reason=None) if name in faults else rows[name]  # the fault is printed below
        say(f"{name}: {sent.sent} sent, {describe(shown)}")
    found = {"sinks": {name: asdict(sent) | {"left": rows[name].waiting} for name, sent in done.items()}}
    if faults:
        first, *more = faults.values()
        raise Refusal(first, more=more, done=found)
    if as_json:
        print_json(found)
    if any(sent.is_misconfigured for sent in done.values()):
        raise click.exceptions.Exit(ExitCode.MISCONFIGURED)
    if any(sent.waits is not None for sent in done.values()):
        raise click.exceptions.Exit(ExitCode.UNAVAILABLE)


def _send_all(
    settings: "Settings", ledger: "Ledger", names: "Sequence[str]"
) -> "tuple[dict[str, Sent], dict[str, str]]":
    """Send what is due. Returns what was sent, and which settings are wrong, by sink."""
    from dagster_offload.ledger.sinks import sinks
    from dagster_offload.sinks.build import build
    from dagster_offload.sinks.planning import register
    from dagster_offload.sinks.recipient import built
    from dagster_offload.sinks.sender import only_sender, send_due

    register(settings, ledger)
    done, faults = {}, {}
    for name in names:
        sink, wrong = built(partial(build, settings, name))
        if wrong is not None:  # its records wait with that reason, and the other sinks get theirs
            faults[name] = str(wrong)
        with only_sender(ledger, name) as is_only_sender:
            if is_only_sender:
                ledger.run(sinks.end_wait_for_setting, name)
                done[name] = send_due(settings, ledger, name, sink)
            else:
                click.echo(f"{name}: another process sends its records now", err=True)
    return done, faults


@command.command("pause")
@click.argument("name")
@home_option
@json_option
def pause(name: str, *, as_json: bool) -> None:
    """Send nothing to a sink until `sink resume`. Its records are kept, and other sinks go on.

    \b
    dagster-offload sink pause paperless
    """
    _change(name, "pause")
    _show_pause(
        name, f"{name} is paused; to send again: dagster-offload sink resume {name}", is_paused=True, as_json=as_json
    )


@command.command("resume")
@click.argument("name")
@home_option
@json_option
def resume(name: str, *, as_json: bool) -> None:
    """Send to a paused sink again.

    \b
    dagster-offload sink resume paperless
    """
    was_paused = _change(name, "resume")
    done = "is resumed" if was_paused else "was not paused"
    words = f"{name} {done}. A running `up` sends its records; to send now: dagster-offload sink send {name}"
    _show_pause(name, words, is_paused=False, as_json=as_json)


def _show_pause(name: str, words: str, *, is_paused: bool, as_json: bool) -> None:
    from dagster_offload.cli.formatting import print_json

    if as_json:
        print_json({"sink": name, "is_paused": is_paused})
    else:
        click.echo(words)


def _change(name: str, change: str) -> bool:
    """Pause or resume a sink. Returns whether it was paused before."""
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.ledger.sinks import sinks
    from dagster_offload.service.home import running_up
    from dagster_offload.sinks.planning import register

    settings = read_in_force().settings
    _refuse_unknown(settings, name)
    with open_existing_ledger(settings) as ledger:
        if running_up(settings.home) is None:  # otherwise `up` has registered its own
            register(settings, ledger)
        before = ledger.run(sinks.get, name)
        ledger.run({"pause": sinks.pause, "resume": sinks.resume}[change], name)
    return before is not None and before.paused_at is not None


def send_again(settings: "Settings", ledger: "Ledger", name: str, documents: "Sequence[str] | None") -> tuple[int, str]:
    """Try the records that a sink refused again. Returns how many, and in words what follows. Raises `Refusal`."""
    from dagster_offload.ledger.sinks import deliveries, sinks

    if ledger.run(sinks.get, name) is None:
        _refuse_unknown(settings, name)
    revived = ledger.run(deliveries.revive, name, documents)
    if revived or documents is None:
        ledger.run(sinks.end_wait, name)
    row = ledger.run(sinks.get, name)
    others = 0 if row is None or documents is not None else row.waiting - row.refused
    then = _when_sent(name, is_removed=name not in settings.sinks, is_paused=row is not None and bool(row.paused_at))
    if revived:
        return revived, f"{counted(revived, 'record')} will be sent again {then}"
    nothing = f"nothing to send again: {name} refused none of {'its' if documents is None else 'these'} records"
    waiting = f"{counted(others, 'record')} {agreeing('wait', others)} for other reasons, and will be sent {then}"
    return 0, f"{nothing}; {waiting}" if others else nothing


def _when_sent(name: str, *, is_removed: bool, is_paused: bool) -> str:
    if is_removed:
        return f"after {name} is in the pipeline file again"
    if is_paused:
        return f"after dagster-offload sink resume {name}"
    return f"by `up` or `dagster-offload sink send {name}`"


def _refuse_unknown(settings: "Settings", name: str) -> None:
    from dagster_offload.text.suggestions import no_such

    if name not in settings.sinks:
        raise Refusal(no_such("sink", name, settings.sinks, HOW_TO_ADD))


def describe(row: "SinkRow") -> str:
    """What waits for a sink and why, in words: `12 waiting (since 14:02: HTTP 503); 1 dead: dagster-offload retry ...`."""
    from dagster_offload.cli.formatting import describe_time
    from dagster_offload.text.times import shown_moment

    parts = [f"{row.waiting} waiting" if row.waiting else "nothing waits"]
    if row.reason is not None:
        since = f"since {shown_moment(row.reason_since)}: " if row.reason_since else ""
        next_try = f", next try {describe_time(row.not_before)}" if row.not_before and row.is_sent_to else ""
        parts[0] += f" ({since}{row.reason}{next_try})"
    if row.refused:
        next_try = f", next try {describe_time(row.refused_next)}" if row.refused_next and row.is_sent_to else ""
        parts.append(f"{row.refused} of them not taken ({row.refused_reason}{next_try})")
    if not row.is_configured:
        parts.append("no longer in the pipeline file")
    if row.paused_at is not None:
        parts.append(f"paused: dagster-offload sink resume {row.name}")
    if row.dead:
        parts.append(f"{row.dead} dead: dagster-offload explain DOCUMENT, then dagster-offload retry --sink {row.name}")
    return "; ".join(parts)


def status_lines(rows: "Sequence[SinkRow]") -> list[str]:
    """The lines of `status` about sinks: none if there is no sink."""
    return [f"{'sink' if index == 0 else '':<8} {row.name}: {describe(row)}" for index, row in enumerate(rows)]


def deliveries_table(found: "Sequence[DeliveryState]") -> "Table":
    """What became of a document's record at each sink, as a table."""
    from dagster_offload.cli.console import table

    rows = table("sink", "record", "attempts", "when", "why")
    for each in found:
        why = each.reason or ""
        if each.state == "dead":
            why += f"; dagster-offload retry --sink {each.sink} DOCUMENT"
        elif each.state == "superseded":
            why += "; a newer record is sent instead"
        rows.add_row(
            each.sink, each.state, str(each.attempts), f"{each.changed_at.astimezone():%Y-%m-%d %H:%M:%S}", why
        )
    return rows
