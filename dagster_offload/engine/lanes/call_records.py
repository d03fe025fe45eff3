"""What the ledger stores of a call: who answered, what it cost, and how it ended."""

from dagster_offload.ledger.core.rows import CallRecord
from dagster_offload.slot.completion import Answer
from dagster_offload.slot.config import SlotConfig


def call_record(
    slot: SlotConfig,
    epoch: int,
    seconds: float,
    *,
    answer: str | None = None,
    outcome: str = "ok",
    part: str | None = None,
) -> CallRecord:
    """Return the record of a call that took `seconds`. `answer` is None if there was none."""
    known = answer if isinstance(answer, Answer) else Answer("")
    return CallRecord(
        slot=slot.name,
        url=slot.shown_url,
        epoch=epoch,
        asked_model=slot.model,
        seconds=known.seconds or seconds,
        outcome=outcome,
        served_model=known.served_model,
        model_evidence=known.model_evidence if answer is not None else None,
        tokens_in=known.usage.prompt_tokens,
        tokens_out=known.usage.completion_tokens,
        tokens_cached=known.usage.cached_tokens,
        part=part,
    )
