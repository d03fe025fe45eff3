"""`dagster-offload slot show|set|forget`: the slots stored in the ledger."""

from typing import TYPE_CHECKING, NoReturn

import click

from dagster_offload.cli import HintingGroup
from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.in_force import read_in_force
from dagster_offload.cli.options import deep_options, home_option, json_option, slot_names
from dagster_offload.cli.slot_text import found_concurrency, print_hours, print_slots
from dagster_offload.slot.config import MAX_CONCURRENCY
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.ledger.core.rows import SlotRow
    from dagster_offload.ledger.reports.overview import SlotUse
    from dagster_offload.settings import Settings

AUTO = "auto"
HOURS_SHOWN = 24


def _number_or_auto(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    """An integer from 1 to `MAX_CONCURRENCY`, or `auto`."""
    if value is None or value == AUTO:
        return value
    try:
        return int(click.IntRange(1, MAX_CONCURRENCY)(value, param, ctx))
    except click.BadParameter:
        message = f"{value!r} is neither a number from 1 to {MAX_CONCURRENCY} nor {AUTO}"
        raise click.BadParameter(message, ctx, param) from None


@click.group("slot", cls=HintingGroup)
def command() -> None:
    """Show, change or forget a slot.

    \b
    dagster-offload slot show
    dagster-offload slot show deep                       and its last 24 hours
    dagster-offload slot set deep --concurrency 4        four open completions, over all workers
    dagster-offload slot set deep --concurrency auto     find the concurrency with the highest throughput
    dagster-offload slot set deep --prompt-cache-size 4  at most four documents in flight
    dagster-offload slot set deep --try-again            the server is fixed: try it, and the stages that it holds
    dagster-offload slot forget deep                     the deep slot was removed on purpose
    """


@command.command("show")
@click.argument("name", required=False)
@home_option
@deep_options
@json_option
def show(name: str | None, *, as_json: bool) -> None:
    """Show every slot in this ledger, and whether it is available; or the slot NAME, and how it was used in the last 24 hours.

    \b
    dagster-offload slot show --json
    dagster-offload slot show deep
    """
    from datetime import datetime

    from dagster_offload.cli.formatting import print_json
    from dagster_offload.cli.running import Running
    from dagster_offload.ledger.core.opening import open_ledger_as_it_is
    from dagster_offload.ledger.reports import activity
    from dagster_offload.ledger.reports.overview import last_hours
    from dagster_offload.ledger.reports.status import live_kinds
    from dagster_offload.ledger.slots import dialects, holds
    from dagster_offload.ledger.slots import slots as ledger_slots
    from dagster_offload.service.home import running_up

    settings = read_in_force().settings
    with open_ledger_as_it_is(settings) as ledger:
        rows = [row for row in ledger.run(ledger_slots.list_slots) if name in (None, row.name)]
        if name is not None and not rows:
            raise _no_such_slot(name)
        hours = {} if name is None else ledger.run(last_hours, name, HOURS_SHOWN, datetime.now().astimezone())
        findings = ledger.run(dialects.recall_all)
        held = [hold for hold in ledger.run(holds.list_holds) if name in (None, hold.slot)]
        running = Running(running_up(settings.home), ledger.run(live_kinds), ledger.run(activity.stopped_sensors))
    if as_json:
        shown_slots = [
            {
                **_as_json(row),
                "dialects": findings.get(row.name, {}),
                "holds": [hold.facts for hold in held if hold.slot == row.name],
            }
            for row in rows
        ]
        print_json({"slots": shown_slots, **({} if name is None else {"hours": _hours_as_json(hours)})})
        return
    if not rows:
        click.echo(
            "This ledger has no slot yet: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL, then run `dagster-offload up`."
        )
        return
    print_slots(rows, held, findings, is_checked=running.is_slot_checked)
    if hours:
        print_hours(hours)


def _hours_as_json(hours: "Mapping[datetime, SlotUse]") -> list[dict[str, object]]:
    keys = ("available_share", "calls", "unanswered", "tokens_per_second", "cached_share")
    return [{"begins_at": at.isoformat(), **{key: getattr(use, key) for key in keys}} for at, use in hours.items()]


def _no_such_slot(name: str) -> click.UsageError:
    return click.UsageError(f"this ledger has no slot named {name!r}; `dagster-offload slot show` lists its slots")


def _as_json(row: "SlotRow") -> dict[str, object]:
    return {
        "name": row.name,
        "url": row.shown_url,
        "model": row.model,
        "permits": row.permits,
        "is_auto": row.is_auto,
        "concurrency_found": found_concurrency(row),
        "prompt_cache_size": row.prompt_cache_size,
        "prompt_cache_size_from": row.prompt_cache_size_from,
        "breaker": row.breaker,
        "epoch": row.epoch,
        "reason": row.reason,
        "retry_at": row.retry_at.isoformat() if row.retry_at else None,
    }


@command.command("set")
@click.argument("name")
@click.option(
    "--concurrency",
    metavar="N|auto",
    callback=_number_or_auto,
    help="Open completions, over all workers and hosts. auto: find the number with the highest throughput.",
)
@click.option(
    "--prompt-cache-size",
    metavar="N|auto",
    callback=_number_or_auto,
    help="Documents the server keeps in its prompt cache: the limit of documents in flight. auto: what the server reports.",
)
@click.option(
    "--try-again",
    is_flag=True,
    help="Try an unavailable or misconfigured slot at the next check instead of waiting, and the stages that it holds. What "
    "was learned about how to ask its server is forgotten.",
)
@home_option
@json_option
def set_(
    name: str, *, concurrency: int | str | None, prompt_cache_size: int | str | None, try_again: bool, as_json: bool
) -> None:
    """Change a slot. The concurrency holds until OFFLOAD_DEEP_CONCURRENCY changes.

    A server reads a document once for all stages only while the document is in its prompt cache. With more documents in
    flight than the cache holds, each is read again. `doctor` measures how many the cache holds.

    \b
    dagster-offload slot set deep --concurrency 4
    dagster-offload slot set deep --concurrency auto
    dagster-offload slot set deep --prompt-cache-size 4
    dagster-offload slot set deep --try-again
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.ledger.slots import slots as ledger_slots

    if concurrency is None and prompt_cache_size is None and not try_again:
        raise click.UsageError("nothing to set: use --concurrency, --prompt-cache-size or --try-again")
    with open_existing_ledger(read_in_force().settings) as ledger:
        before = ledger.run(ledger_slots.get, name)
        if before is None:
            raise _no_such_slot(name)
        done = []
        if concurrency is not None:
            done.append(_set_concurrency(ledger, name, concurrency))
        if prompt_cache_size is not None:
            done.append(_set_prompt_cache_size(ledger, name, prompt_cache_size))
        if try_again:
            done += _try_again(ledger, before)
        row = ledger.run(ledger_slots.get, name)
    if as_json:
        print_json({"slot": row and _as_json(row)})
        return
    for line in done:
        click.echo(f"{name}: {line}")


def _set_concurrency(ledger: "Ledger", name: str, concurrency: int | str) -> str:
    """Set it. Return the line to print."""
    from dagster_offload.ledger.slots import slots

    if isinstance(concurrency, int):
        ledger.run(slots.set_permits, name, concurrency)
        return f"at most {concurrency} open completions from now on."
    ledger.run(slots.set_auto, name)
    return "starts with one completion at a time, and adds more while that raises the throughput."


def _set_prompt_cache_size(ledger: "Ledger", name: str, size: int | str) -> str:
    """Set it. Return the line to print."""
    from dagster_offload.ledger.slots import slots

    if isinstance(size, int):
        ledger.run(slots.set_prompt_cache_size, name, size)
        return f"at most {counted(size, 'document')} in flight from now on."
    ledger.run(slots.set_prompt_cache_size, name, None)
    return "the limit of documents in flight is the prompt cache size that the server reports, if it reports one."


def _try_again(ledger: "Ledger", slot: "SlotRow") -> list[str]:
    """Make a trial due, end the slot's holds and forget its dialect. Return the lines to print."""
    from dagster_offload.ledger.slots import holds, slots

    held = [hold.stage for hold in ledger.run(holds.list_holds) if hold.slot == slot.name]
    ledger.run(slots.try_again, slot.name, "requested with slot set --try-again")
    done = [
        f"takes the stage {stage} again. Documents that failed in it may wait a minute, for others to go first."
        for stage in held
    ]
    if not held or slot.breaker != "closed":
        done.append("the next check sends a one-token test request. If the slot answers it, work resumes.")
    done.append("what was learned about how to ask its server is forgotten; a drain that runs now still uses it.")
    return done


@command.command("forget")
@click.argument("name")
@home_option
@json_option
def forget(name: str, *, as_json: bool) -> None:
    """Remove a slot from the ledger for good. Its results stay; its work may then go to the slots in the settings.

    It is refused while work is in progress at the slot.

    \b
    dagster-offload slot forget deep
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.ledger.core.workers import live_workers
    from dagster_offload.ledger.slots import permits
    from dagster_offload.ledger.slots import slots as ledger_slots
    from dagster_offload.settings import read_settings

    loaded = read_settings()
    with open_existing_ledger(loaded.settings) as ledger:
        ledger.run(live_workers, ledger.schema)  # what dead ones held is free
        if ledger.run(permits.count_held, name):
            _refuse_while_working(loaded.settings, name)
        was_known = ledger.run(ledger_slots.forget, name)
    if as_json:
        print_json({"slot": name, "forgotten": was_known})
        return
    if not was_known:
        click.echo(f"{name}: this ledger has no slot of that name; nothing to forget.")
        return
    click.echo(f"{name}: forgotten.")
    if name in {slot.name for slot in loaded.settings.slots}:
        say(
            f"It is still configured ({loaded.tree.where(('slots', name, 'url'))}), so the next command that processes documents "
            "adds it again. Remove it there, too."
        )


def _refuse_while_working(settings: "Settings", name: str) -> NoReturn:
    ends = (
        f"`dagster-offload pause {name}` ends it when its open calls are answered"
        if name in slot_names(settings, None)
        # `pause` knows only the slots of the settings.
        else "a command that began before the slot was removed from the settings does it. Wait until it has ended, or end it"
    )
    raise Refusal(f"work is in progress at {name}: {ends}. Then forget the slot")
