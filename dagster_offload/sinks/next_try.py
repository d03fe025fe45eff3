"""What a failed delivery means for its record and its sink. Pure."""

from dataclasses import dataclass, replace

from dagster_offload.sinks.faults import Blame, SinkFault

# A record that the sink refuses is tried again after these pauses, then it is dead and waits for a person.
REFUSAL_PAUSES = (60.0, 600.0, 3600.0)
# So many refusals in a row, without a success between, are the sink's fault: a broken script refuses every record. Those that
# are surely about one record do not count: a Paperless that has few documents of the library works. A server that fails over
# so many records that waited is down, too: the rest is not sent to it without a pause.
REFUSALS_OF_A_BROKEN_SINK = 5
# After so many waits in a row for a server that fails, the records behind the present one go first: its failure may be about
# this record alone. If it fails again after the sink took others, the sink does not wait for it again.
WAITS_BEFORE_OTHERS_GO = 3
FIRST_WAIT = 5.0
LONGEST_WAIT = 600.0


@dataclass(frozen=True)
class SinkState:
    """What is known of a sink: its waits and its refusals in a row."""

    waits: int = 0
    refusals: int = 0


@dataclass(frozen=True)
class NextTry:
    """The decision. Seconds are from now.

    `sink_wait`: nothing is sent to the sink before; None = it does not wait. `is_refusal`: the record is not sent again
    before `record_wait`; None = it is dead and waits for a person. `counts`: the refusal is an attempt of the record.
    """

    state: SinkState
    reason: str
    sink_wait: float | None = None
    is_refusal: bool = False
    record_wait: float | None = None
    counts: bool = False


def after_failure(fault: SinkFault, sink: SinkState, attempts: int, *, is_behind_others: bool = False) -> NextTry:
    """Decide after a failure. `attempts` are earlier refusals of this record. `is_behind_others`: it has let others go first."""
    if fault.blame is not Blame.REFUSED:
        took_others = is_behind_others and not sink.waits and sink.refusals < REFUSALS_OF_A_BROKEN_SINK
        if took_others and fault.may_be_of_record and fault.retry_after is None:
            state = SinkState(sink.waits, sink.refusals + 1)
            return NextTry(state, fault.reason, is_refusal=True, record_wait=LONGEST_WAIT)
        wait = _wait(fault, SinkState(sink.waits + 1, sink.refusals), fault.reason)
        lets_others_go = fault.may_be_of_record and sink.waits >= WAITS_BEFORE_OTHERS_GO
        return replace(wait, is_refusal=True, record_wait=REFUSAL_PAUSES[0]) if lets_others_go else wait
    refusals = sink.refusals if fault.is_of_record else sink.refusals + 1
    if not fault.is_of_record and refusals > REFUSALS_OF_A_BROKEN_SINK:
        # Records that were not tried go first, so a good one ends this.
        wait = _wait(fault, SinkState(sink.waits + 1, refusals), f"it refuses every record: {fault.reason}")
        return replace(wait, is_refusal=True, record_wait=REFUSAL_PAUSES[0])
    next_pause = REFUSAL_PAUSES[attempts] if attempts < len(REFUSAL_PAUSES) else None
    return NextTry(SinkState(sink.waits, refusals), fault.reason, is_refusal=True, record_wait=next_pause, counts=True)


def _wait(fault: SinkFault, state: SinkState, reason: str) -> NextTry:
    """The sink waits: 5 s, doubling to 10 minutes, or what it asked for."""
    wait = min(FIRST_WAIT * 2.0 ** min(state.waits - 1, 20), LONGEST_WAIT)
    asked = fault.retry_after
    return NextTry(state, reason, sink_wait=wait if asked is None else min(max(asked, FIRST_WAIT), 6 * 3600.0))
