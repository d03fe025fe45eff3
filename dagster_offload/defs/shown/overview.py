"""The assets `backlog`, `deep_slot`, `slots/NAME` and `records`: numbers that Dagster draws as plots, and the newest records as
a table.

They are reported at the end of scans and drains, and by a tick of the library sensor, if something has changed and the last
report is old enough. A tick in which nothing changed costs one query.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from dagster_offload.defs.names import LEDGER_IO, Names
from dagster_offload.defs.shown.records import record_table
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.rows import StageCounts
from dagster_offload.ledger.events import last_reports
from dagster_offload.ledger.reports import activity, overview, records, status
from dagster_offload.ledger.reports.estimate import estimate
from dagster_offload.ledger.reports.overview import SlotUse
from dagster_offload.ledger.slots import holds
from dagster_offload.settings import Settings
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.catalog import recipes, splitting

GROUP = "overview"
BACKLOG, SLOT, RECORDS = "backlog", "deep_slot", "records"
FURTHER_SLOTS = "slots"
SUBJECT = "overview"
RECORDS_SHOWN = 50
# Each report stores some kilobytes.
SECONDS_BETWEEN_TICKS = 15 * 60.0

Numbers = Mapping[str, int | float | None]


def overview_keys(stages: Mapping[str, dg.AssetKey]) -> dict[str, dg.AssetKey]:
    """The keys of these assets but those of further slots, with the prefix of the stages' keys."""
    return {name: dg.AssetKey([*_prefix(stages), name]) for name in (BACKLOG, SLOT, RECORDS)}


def slot_keys(stages: Mapping[str, dg.AssetKey], further: Iterable[str]) -> dict[str, dg.AssetKey]:
    """The keys of the assets of `deep` and of these further slots, by slot."""
    keys = {name: dg.AssetKey([*_prefix(stages), FURTHER_SLOTS, name]) for name in further}
    return {DEEP: overview_keys(stages)[SLOT], **keys}


def _prefix(stages: Mapping[str, dg.AssetKey]) -> Sequence[str]:
    return next(iter(stages.values())).path[:-1]


def overview_specs(names: Names, further: Iterable[str]) -> list[dg.AssetSpec]:
    """The assets; `further`: the names of the further slots. Nothing materializes them on request: scans, drains and a sensor
    report them."""
    keys = overview_keys(names.keys)
    of_slots = {key: _description_of(name) for name, key in slot_keys(names.keys, further).items()}
    descriptions = {
        BACKLOG: "What is left, by stage, and the hours of the slot's time that it takes. A point is added after each scan "
        "and drain, and at most every 15 minutes while something changes. Press *Plots* beside the metadata.",
        RECORDS: "The newest records: document, class, title and summary. A document's whole record is in the latest "
        "materialization of its last stage. To read all records, take this asset as an input of an asset of your own, or, with "
        "`up`, run dagster-offload records",
    }
    described = {keys[name]: text for name, text in descriptions.items()} | of_slots
    return [
        dg.AssetSpec(
            key,
            description=description,
            group_name=GROUP,
            deps=list(names.keys.values())[1:] if key == keys[RECORDS] else [],
        ).with_io_manager_key(names.of(LEDGER_IO))
        for key, description in described.items()
    ]


def _description_of(slot: str) -> str:
    return (
        f"The last hour of the slot `{slot}`: the share in which it was available (as far as work was due), its calls, those "
        "without an answer, its speed, how many calls may be open at once, and the share of the prompts that its server had in "
        "its cache. Press *Plots* beside the metadata."
    )


@dataclass(frozen=True)
class Overview:
    """What the assets show."""

    counts: Mapping[str, StageCounts]
    not_applicable: Mapping[str, int]  # by stage with a condition; a part of `done`
    hours_left: float | None
    uses: Mapping[str, SlotUse]  # by slot, `deep` first
    newest: list[records.DocumentRecord]


def report_overview(
    instance: dg.DagsterInstance,
    ledger: Ledger,
    stages: Mapping[str, dg.AssetKey],
    settings: Settings,
    least_seconds: float = 0.0,
) -> None:
    """Report the assets if something has changed and the last report is at least `least_seconds` old."""
    if (position := ledger.run(_position_to_report, least_seconds)) is not None:
        found, keys = ledger.run(_read, settings), overview_keys(stages)
        plots = {keys[BACKLOG]: backlog_numbers(found)}
        for slot, key in slot_keys(stages, settings.slots_section.further).items():
            plots[key] = slot_numbers(found.uses[slot])
        for key, numbers in plots.items():
            instance.report_runless_asset_event(dg.AssetObservation(key, metadata=_shown(numbers)))
        if found.newest:
            metadata = {"newest records": record_table(found.newest, settings)}
            instance.report_runless_asset_event(dg.AssetMaterialization(keys[RECORDS], metadata=metadata))
        ledger.run(last_reports.mark_reported, SUBJECT, position)


def needs_report(ledger: Ledger) -> bool:
    """Whether a tick of the library sensor must report. One query; it does not open Dagster's instance."""
    return ledger.run(_position_to_report, SECONDS_BETWEEN_TICKS) is not None


def _position_to_report(cur: Cursor, least_seconds: float) -> str | None:
    position = overview.position(cur)
    is_due = position != overview.NOTHING and last_reports.is_due(cur, SUBJECT, position, least_seconds)
    return position if is_due else None


def _read(cur: Cursor, settings: Settings) -> Overview:
    held = holds.held_everywhere(settings, holds.list_holds(cur))
    names = [slot.name for slot in settings.slots.of_drains] or [DEEP]
    return Overview(
        counts=status.stage_counts(cur, recipes(settings)),
        not_applicable=activity.not_applicable(cur),
        hours_left=estimate(cur, *names, splitting=splitting(settings), held_everywhere=held).slot_hours_left,
        uses={slot: overview.last_hour(cur, slot) for slot in (DEEP, *settings.slots_section.further)},
        newest=list(records.read(cur, overview.newest_records(cur, RECORDS_SHOWN))),
    )


def backlog_numbers(found: Overview) -> Numbers:
    """The numbers of `backlog`, one plot each. A document that a stage's condition leaves out is not done, as in `status`."""
    numbers: dict[str, int | float | None] = {}
    for stage, counts in found.counts.items():
        numbers |= {
            f"{stage}: due": counts.pending + counts.claimed,
            f"{stage}: deferred": counts.deferred,
            f"{stage}: failed": counts.failed + counts.quarantined,
            f"{stage}: done": counts.done - found.not_applicable.get(stage, 0),
        }
    return numbers | {"hours left": found.hours_left}


def slot_numbers(use: SlotUse) -> Numbers:
    """The numbers of a slot, one plot each. Shares are percentages."""
    return {
        "available, % of the hour": _percent(use.available_share),
        "calls in the hour": use.calls,
        "calls without an answer": use.unanswered,
        "concurrency": use.concurrency,
        "tokens per second": use.tokens_per_second,
        "prompt from cache, %": _percent(use.cached_share),
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _shown(numbers: Numbers) -> dict[str, dg.MetadataValue]:
    return {
        name: dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(round(value, 2))
        for name, value in numbers.items()
        if value is not None
    }
