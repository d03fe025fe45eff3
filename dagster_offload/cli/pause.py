"""`dagster-offload pause`: send nothing to a slot until a time, or until `resume`."""

import re
from datetime import UTC, datetime, timedelta

import click

from dagster_offload.cli.in_force import read_in_force
from dagster_offload.cli.options import home_option, json_option, slot_names
from dagster_offload.text.durations import read_duration


def end_of_pause(text: str, now: datetime) -> datetime:
    """The moment that `text` names in local time: `18:00`, `2026-12-01`, `2026-12-01 18:00`, or `2h` from `now`.

    Raises `ValueError` if it names none, or none in the future.
    """
    if (length := read_duration(text)) is not None:
        end = now + length
    elif (found := re.fullmatch(r"(\d\d?):(\d\d)", text)) is not None:
        time = now.astimezone().replace(tzinfo=None, hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
        end = time.astimezone()
        if end <= now:
            end = (time + timedelta(days=1)).astimezone()
    else:
        end = datetime.fromisoformat(text).astimezone()
    if end <= now:
        raise ValueError("it is in the past")
    return end


def _end(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        return end_of_pause(value.strip(), datetime.now(UTC))
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is no time in the future: write 18:00, 2026-12-01, '2026-12-01 18:00', 30m, 2h or 3d"
        ) from None


@click.command("pause")
@click.argument("slot", required=False)
@click.option(
    "--until", metavar="TIME", callback=_end, help="Local time (18:00, '2026-12-01 18:00') or a duration (30m, 2h, 3d)."
)
@home_option
@json_option
def command(slot: str | None, *, until: datetime | None, as_json: bool) -> None:
    """Send nothing to a slot until a time, or until `resume`. Without SLOT, every slot is paused.

    Open calls are finished, and drains end. Scans go on. Nothing fails: documents wait, and so do runs.

    \b
    dagster-offload pause
    dagster-offload pause deep --until 18:00
    dagster-offload pause --until 3d
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.ledger.slots import rests

    settings = read_in_force().settings
    names = slot_names(settings, slot)
    with open_existing_ledger(settings) as ledger:
        for name in names:
            ledger.run(rests.pause, name, until)
    if as_json:
        print_json({"paused": list(names), "until": until and until.isoformat(timespec="seconds")})
        return
    what = "Every slot" if slot is None else slot
    again = "dagster-offload resume" + ("" if slot is None else f" {slot}")
    end = "" if until is None else f" until {until.astimezone():%a %d %b %H:%M}"
    click.echo(f"{what} is paused{end}. To use it {'again' if until is None else 'earlier'}: {again}")
