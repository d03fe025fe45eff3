"""`dagster-offload slot show|set|forget`: a slot as the ledger knows it."""

from typing import Any

import click

from dagster_offload.cli.options import deep_options, home_option, json_option
from dagster_offload.slot.config import MAX_CONCURRENCY

AUTO = "auto"


def _number_or_auto(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    """A number from 1, or the word that leaves it to us."""
    if value is None or value == AUTO:
        return value
    try:
        return int(click.IntRange(1, MAX_CONCURRENCY)(value, param, ctx))
    except click.BadParameter:
        words = f"{value} is neither a number from 1 to {MAX_CONCURRENCY} nor {AUTO}"
        raise click.BadParameter(words, ctx, param) from None


@click.group("slot")
def command() -> None:
    """Show, set or forget a slot.

    \b
    dagster-offload slot show
    dagster-offload slot set deep --concurrency 4     four completions open at once, over all workers
    dagster-offload slot set deep --concurrency auto  as many as bring most tokens per second: found by trying
    dagster-offload slot set deep --places 4          four documents in flight at most: its prompt cache keeps so many
    dagster-offload slot set deep --try-again         the server is mended: ask it now
    dagster-offload slot forget deep                  there is no deep slot any more, and that is meant
    """


@command.command("show")
@home_option
@deep_options
@json_option
def show(*, as_json: bool) -> None:
    """Every slot this ledger has seen, and whether work flows to it.

    \b
    dagster-offload slot show --json
    """
    from dagster_offload.cli.console import table, to_terminal
    from dagster_offload.cli.formatting import describe_time, print_json, say
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.ledger.slots import dialects
    from dagster_offload.ledger.slots import slots as ledger_slots
    from dagster_offload.settings import load_settings
    from dagster_offload.slot.dialects import Dialects, dialects_in_words

    with open_ledger(load_settings()) as ledger:
        rows = ledger.run(ledger_slots.list_slots)
        findings = ledger.run(dialects.recall_all)
    if as_json:
        print_json({"slots": [{**_as_json(row), "dialects": findings.get(row.name, {})} for row in rows]})
        return
    if not rows:
        click.echo(
            "This ledger has seen no slot yet: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL, then `dagster-offload up`."
        )
        return
    shown = table("slot", "model", "router", "permits", "places", "breaker", "why", "asked again")
    for row in rows:
        shown.add_row(
            row.name,
            row.model,
            row.shown_url,
            f"{row.permits} (auto)" if row.is_auto else str(row.permits),
            _places(row),
            row.breaker,
            row.reason or "",
            "now due" if row.is_retry_due else describe_time(row.retry_at),
        )
    to_terminal(shown)
    for row in rows:
        if (words := describe_concurrency(row)) is not None:
            say(f"{row.name}: {words}")
        if row.name in findings:
            for line in dialects_in_words(Dialects(findings[row.name])):
                click.echo(f"{row.name}: {line}")


def _places(row: Any) -> str:
    return f"{row.places} ({'you said' if row.places_from == 'person' else 'the server says'})" if row.places else ""


def describe_concurrency(row: Any) -> str | None:
    """What trying found of a slot's width; None where it is not found by trying, or nothing is found yet."""
    if not row.is_auto or row.width_found is None:
        return None
    found = row.width_found
    gain = f", {found['speed_up']:g} x the tokens per second of 1" if found["width"] > 1 and found["speed_up"] else ""
    return f"auto found {found['width']} open at once best, {found['call_seconds']:g} s a call{gain}"


def _as_json(row: Any) -> dict[str, object]:
    return {
        "name": row.name,
        "url": row.shown_url,
        "model": row.model,
        "permits": row.permits,
        "is_auto": row.is_auto,
        "width_found": row.width_found,
        "places": row.places,
        "places_from": row.places_from,
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
    help="Completions open at once, over all workers and hosts; auto: found by trying.",
)
@click.option(
    "--places",
    metavar="N|auto",
    callback=_number_or_auto,
    help="Documents in flight, at most; auto: as many as the server says, if it does.",
)
@click.option("--try-again", is_flag=True, help="Ask an open or misconfigured slot now instead of waiting.")
@home_option
def set_(name: str, *, concurrency: int | str | None, places: int | str | None, try_again: bool) -> None:
    """Change a slot. The concurrency holds until OFFLOAD_DEEP_CONCURRENCY changes.

    A server reads a document once for all stages only while its prompt cache keeps it: with more documents in flight
    than it has places, each is read again. `doctor` finds out how many it keeps.

    \b
    dagster-offload slot set deep --concurrency 4
    dagster-offload slot set deep --concurrency auto
    dagster-offload slot set deep --places 4
    dagster-offload slot set deep --try-again
    """
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.ledger.slots import slots as ledger_slots
    from dagster_offload.settings import load_settings

    if concurrency is None and places is None and not try_again:
        raise click.UsageError("nothing to set: use --concurrency N, --places P or --try-again")
    with open_ledger(load_settings()) as ledger:
        if ledger.run(ledger_slots.get, name) is None:
            raise click.UsageError(
                f"this ledger has never seen a slot named {name}; `dagster-offload slot show` lists them"
            )
        if concurrency == AUTO:
            ledger.run(ledger_slots.set_auto, name)
            click.echo(f"{name}: one completion at a time now, more where that brings more tokens per second.")
        elif isinstance(concurrency, int):
            ledger.run(ledger_slots.set_permits, name, concurrency)
            click.echo(f"{name}: at most {concurrency} completions open at once, from now on.")
        if places == AUTO:
            ledger.run(ledger_slots.set_places, name, None)
            click.echo(f"{name}: as many documents in flight as the server says it keeps, where it says so.")
        elif isinstance(places, int):
            ledger.run(ledger_slots.set_places, name, places)
            click.echo(f"{name}: at most {places} documents in flight, from now on.")
        if try_again:
            ledger.run(ledger_slots.try_again, name, "a person asked to try again")
            click.echo(f"{name}: the next look at the slot asks it for one token; if it answers, work flows.")


@command.command("forget")
@click.argument("name")
@home_option
def forget(name: str) -> None:
    """Say that a slot is gone for good. Results stay; its work may then go where the settings say.

    \b
    dagster-offload slot forget deep
    """
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.ledger.slots import slots as ledger_slots
    from dagster_offload.settings import load_settings

    settings = load_settings()
    with open_ledger(settings) as ledger:
        was_known = ledger.run(ledger_slots.forget, name)
    if not was_known:
        click.echo(f"{name}: this ledger never saw a slot of that name; nothing to forget.")
        return
    click.echo(f"{name}: forgotten.")
    if name == "deep" and settings.slots.deep is not None:
        click.echo("OFFLOAD_DEEP_URL is still set, so the next command that works brings it back: unset it, too.")
