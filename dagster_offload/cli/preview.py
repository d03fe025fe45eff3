"""`dagster-offload preview`: what a scan of a library would find and what it would cost. Stores nothing."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.options import deep_options, home_option, json_option, library_option
from dagster_offload.text.counts import counted, rounded
from dagster_offload.text.sizes import shown_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagster_offload.engine.preview import Preview
    from dagster_offload.settings import Settings

SECONDS_TO_LIST = 10.0  # before `up`: a stop is noticed after this, and after the next
SECONDS_BEFORE_UP = 10.0
LARGE = 1_000  # documents of a new library: before its first scan, `up` shows what `preview` shows
TYPES_SHOWN = 12


@click.command("preview")
@library_option
@deep_options
@home_option
@json_option
def command(*, as_json: bool) -> None:
    """Show what a scan of the library would find: files by type, what is left out, tokens, and hours of the deep slot.

    Reads a sample of the files, for at most about 20 seconds. Needs no Postgres and no slot, and stores nothing. If
    `up` runs, the hours are those at the slot's measured pace; otherwise they are shown for three paces.

    \b
    dagster-offload preview --library ~/Documents
    dagster-offload preview --library ~/Documents --json | jq .tokens
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.engine.preview import PACES, list_library, preview
    from dagster_offload.settings import load_settings

    settings = load_settings()
    found, pace = preview(settings, list_library(settings)), _measured_pace(settings)
    if as_json:
        paces = PACES if pace is None else (pace,)
        hours = [{"tokens_per_second": each, "hours": found.hours(each)} for each in paces]
        print_json(asdict(found) | {"is_pace_measured": pace is not None, "hours": hours})
        return
    print_preview(found, pace, click.echo)


def print_preview(found: "Preview", pace: float | None, say: "Callable[[str], None]") -> None:
    """Print the preview, line by line. `pace` is the slot's measured one, in tokens per second."""
    from dagster_offload.cli.formatting import duration
    from dagster_offload.engine.preview import ANSWER_TOKENS, PACES
    from dagster_offload.library.left_out import Kind, describe_count
    from dagster_offload.text.plain_text import escaped

    say(f"{escaped(found.library)}: {counted(found.documents, 'document')}, {shown_size(found.bytes)}")
    for kind in found.kinds[:TYPES_SHOWN]:
        notes = [
            f"{count} of {kind.sampled} sampled {what}"
            for count, what in ((kind.need_ocr, "need OCR"), (kind.unreadable, "cannot be read"))
            if count
        ]
        tokens = f"about {rounded(kind.tokens)} tokens" if kind.sampled < kind.documents else f"{kind.tokens:,} tokens"
        say(f"  {kind.type:<12} {kind.documents:>7,}  {shown_size(kind.bytes):>10}  {'; '.join([tokens, *notes])}")
    if len(found.kinds) > TYPES_SHOWN:
        rest = found.kinds[TYPES_SHOWN:]
        say(f"  and {counted(sum(kind.documents for kind in rest), 'document')} of {counted(len(rest), 'more type')}")
    if found.too_large:
        say(f"larger than OFFLOAD_MAX_FILE_SIZE, so not read: {counted(found.too_large, 'document')}")
    for name, left in sorted(found.left_out.items(), key=lambda entry: -entry[1].count):
        names = ", ".join(left.names) + (" ..." if left.count > len(left.names) else "")
        say(f"left out: {describe_count(Kind(name), left.count)}: {escaped(names)}")
    if found.left_out:
        say("`dagster-offload scan --skipped` lists them all, and what would change that")
    for label, reasons in (("not a document", found.unusable_names), ("folder not read", found.unreadable_folders)):
        for name, reason in list(reasons.items())[:3]:
            say(f"{label}: {escaped(name)}: {escaped(reason)}")
    if not found.with_text:
        say("no document has a text that a model could read")
        return
    say(
        f"tokens: about {rounded(found.tokens)} in the texts of {counted(found.with_text, 'document')} (a high estimate, from "
        f"a sample of {found.sampled}); with the questions of {', '.join(found.stages)} about "
        f"all of them: about {rounded(found.tokens_read)} read, and about {rounded(found.tokens_written)} written "
        f"({ANSWER_TOKENS} an answer)"
    )
    if found.long_documents:
        say(f"longer than the model's context, so read in parts: {counted(found.long_documents, 'document')}")
    times = [
        f"{duration(found.hours(each) * 3600)} at {each:,.0f} tokens/s" for each in (PACES if pace is None else (pace,))
    ]
    measured = "" if pace is None else ", its measured pace"
    say(
        f"time of the slot: about {', '.join(times)}{measured}, if it answers every stage of every document from the start"
    )


def show_if_large(settings: "Settings", say: "Callable[[str], None]") -> None:
    """Print the preview if the home has no ledger yet and its library is large."""
    from dagster_offload.engine.preview import list_library, preview
    from dagster_offload.errors import OffloadError
    from dagster_offload.library.missing import why_missing
    from dagster_offload.postgres.embedded.paths import Paths

    library = settings.library
    has_ledger = settings.postgres_url is not None or Paths(settings.home).data.exists()
    if has_ledger or library is None or why_missing(library) is not None:
        return
    try:
        found = list_library(settings, SECONDS_TO_LIST)
        if found.count <= LARGE:
            return
        say(f"The library is new and has {found.count:,} documents. What they are, from a sample:")
        print_preview(preview(settings, found, most_seconds=SECONDS_BEFORE_UP), None, say)
    except TimeoutError:
        say(f"No preview: to list the library takes longer than {SECONDS_TO_LIST:g} s")
    except OffloadError as error:  # `up` starts anyway, and its scan reports what is wrong with the library
        say(f"No preview: {error}")


def _measured_pace(settings: "Settings") -> float | None:
    """The slot's pace in tokens per second, from the ledger of a running `up`; None if it is not known."""
    from dagster_offload.cli.status_report import slot_name
    from dagster_offload.errors import LedgerUnavailable, SettingsError
    from dagster_offload.service.home import running_up

    if running_up(settings.home) is None:
        return None
    from dagster_offload.ledger.core.opening import open_ledger_as_it_is
    from dagster_offload.ledger.reports.estimate import recent_rate

    try:
        with open_ledger_as_it_is(settings) as ledger:
            slots = [slot.name for slot in settings.slots.of_drains]
            rate = ledger.run(recent_rate, *(slots or [slot_name(settings)]))
    except (LedgerUnavailable, SettingsError):  # `up` starts or stops: its Postgres, or even its ledger, is not there
        return None
    return None if rate is None else rate.tokens_per_second
