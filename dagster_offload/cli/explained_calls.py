"""The calls of one document as a table. A long document has hundreds: those about its parts are summed up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from dagster_offload.ledger.reports.explanation import ExplainedCall

MOST_SHOWN = 4  # calls about parts in a row with the same outcome; of more, only the first and the last are shown


@dataclass(frozen=True)
class Between:
    """Calls about parts with the same outcome that are not shown one by one."""

    calls: "Sequence[ExplainedCall]"


def shortened(calls: "Sequence[ExplainedCall]") -> "Iterator[ExplainedCall | Between]":
    """The calls in their order, with the middle of each long row of parts as one entry."""
    for (_, _, _, _, is_part), group in groupby(calls, _sort):
        row = list(group)
        if not is_part or len(row) <= MOST_SHOWN:
            yield from row
        else:
            yield from (row[0], Between(row[1:-1]), row[-1])


def _sort(call: "ExplainedCall") -> tuple[Any, ...]:
    return call.stage, call.slot, _model(call), call.outcome, call.part is not None


def calls_table(calls: "Sequence[ExplainedCall]") -> Any:
    """A row for each call, or for those between the first and the last about parts in a row."""
    from dagster_offload.cli.console import table

    shown = table("call ended", "stage", "slot", "model", "tokens in", "cached", "out", "seconds", "outcome")
    for each in shortened(calls):
        of = each.calls if isinstance(each, Between) else [each]
        last = of[-1]
        if isinstance(each, Between):
            about = f"{last.stage}, {counted(len(of), 'more call')} about parts"
        else:
            about = f"{last.stage}, {last.part}" if last.part else last.stage or "trial"
        shown.add_row(
            f"{last.ended_at.astimezone():%Y-%m-%d %H:%M:%S}",
            about,
            last.slot,
            _model(last),
            *(_sum(getattr(call, name) for call in of) for name in ("tokens_in", "tokens_cached", "tokens_out")),
            f"{sum(call.seconds for call in of):.1f}",
            last.outcome,
        )
    return shown


def _model(call: "ExplainedCall") -> str:
    model = call.served_model or call.asked_model
    return f"{model} ({call.model_evidence})" if call.model_evidence else model


def _sum(counts: "Iterator[int | None]") -> str:
    known = [count for count in counts if count is not None]
    return str(sum(known)) if known else ""
