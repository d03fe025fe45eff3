"""A redo that a person wants: which work it is, and what it would cost. Nothing is redone here."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from dagster_offload.engine.agreement import agree_with_up
from dagster_offload.ledger.core import stages as core_stages
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.reports import records
from dagster_offload.ledger.reports.records import Selection
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import redo
from dagster_offload.ledger.work.redo import Redo, RedoEstimate
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.stages.pipeline import pipeline_of
from dagster_offload.text.counts import counted, rounded
from dagster_offload.text.durations import duration


def prepare_redo(
    settings: Settings,
    ledger: Ledger,
    stages: Sequence[str],
    selection: Selection | None,
    *,
    only_outdated: bool,
    before: datetime | None = None,
) -> tuple[Redo, list[RedoEstimate]]:
    """The work of these stages and documents (None = all) for `ledger.work.redo`, and what it would cost. `before`: only
    what was answered before this time.

    Conditions that were changed are decided first, so that documents to which a stage no longer applies are not redone.
    Raises `OtherPipeline`, and `SlotLost`: without the slot's settings all recipes would differ.
    """
    current = recipes(settings)
    agree_with_up(ledger, pipeline_of(settings))
    ledger.run(slots.refuse_lost_slot, settings.slots)
    while ledger.run(core_stages.fill, current):
        pass
    documents = None if selection is None else ledger.run(records.select, selection)
    chosen = Redo({stage: current[stage] for stage in stages}, documents, only_outdated, before)
    return chosen, ledger.run(redo.estimate, chosen)


def describe_estimates(estimates: Sequence[RedoEstimate]) -> Iterator[str]:
    """One line per stage: `payment    3 documents, 3 calls: about 12,400 tokens and 4 min of the slot's time ...`.

    A last line has the total if several stages of slots need calls.
    """
    width = max((10, *(len(estimate.stage) for estimate in estimates)))
    for estimate in estimates:
        documents = f"{estimate.stage:<{width}} {counted(estimate.documents, 'document')}"
        if estimate.stage == EXTRACT:
            yield f"{documents}, no call: read again; if the text changes, the stages after it are asked again"
            continue
        if not estimate.calls:
            yield f"{documents}, no call: answers to today's question are stored"
            continue
        yield f"{documents}, {counted(estimate.calls, 'call')}: {_cost(estimate.tokens, estimate.hours)}"
    asked = [estimate for estimate in estimates if estimate.calls]
    if len(asked) > 1:
        calls = counted(sum(estimate.calls for estimate in asked), "call")
        cost = _cost(_sum(estimate.tokens for estimate in asked), _sum(estimate.hours for estimate in asked))
        yield f"{'total':<{width}} {calls}: {cost}"


def _cost(tokens: float | None, hours: float | None) -> str:
    used = "" if tokens is None else f"about {rounded(tokens)} tokens and "
    time = "an unknown part" if hours is None else duration(hours * 3600)
    return f"{used}{time} of the slot's time if sent one at a time"


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum, or None if a value is not known: a total must not be too low."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)
