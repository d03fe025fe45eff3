"""The lines that `up` prints about sinks and channels of notifications: one when a problem begins, one when all is well again.

What was so when `up` started is said as such: nothing has happened.
"""

from collections.abc import Iterator

from dagster_offload.ledger.reports.news import News
from dagster_offload.ledger.reports.recipients import MOST_DEAD_COUNTED, SinkState
from dagster_offload.text.counts import counted
from dagster_offload.text.plain_text import escaped
from dagster_offload.text.times import shown_moment


def recipient_lines(before: News, now: News) -> Iterator[str]:
    """The lines of what changed between two looks."""
    for name, sink in now.sinks.items():
        known = before.sinks.get(name)
        for line in _as_it_is(sink) if known is None else _about_sink(known, sink):
            yield f"sink {name}: {line}"
    for name, fault in now.channel_faults.items():
        earlier = before.channel_faults.get(name)
        if name not in before.channels:
            if not fault.is_given_up:
                yield f"notify {name}: its messages wait: {escaped(fault.reason)}"
        elif fault.is_given_up and (earlier is None or not earlier.is_given_up):
            yield f"notify {name}: {escaped(fault.reason)}; a message was given up: dagster-offload notify list"
        elif earlier is None:
            yield f"notify {name}: {escaped(fault.reason)}; its messages wait, and are sent later"
    for name in before.channel_faults:
        if name not in now.channel_faults and name in now.channels:
            yield f"notify {name}: its messages are sent again"


def _as_it_is(sink: SinkState) -> Iterator[str]:
    """The lines about a sink at the first look."""
    next_try = f"; next try at {shown_moment(sink.next_try)}" if sink.next_try is not None else ""
    if sink.is_paused:
        yield f"is paused; its records are kept: dagster-offload sink resume {sink.name}"
    if sink.reason is not None:
        yield f"its records wait: {escaped(sink.reason)}{next_try}"
    elif sink.refused is not None:
        yield f"a record that it did not take waits: {escaped(sink.refused)}{next_try}"
    if sink.dead:
        records = counted(sink.dead, "record", MOST_DEAD_COUNTED)
        yield f"{records} refused for good; correct the cause, then dagster-offload retry --sink {sink.name}"


def _about_sink(before: SinkState, now: SinkState) -> Iterator[str]:
    if now.is_paused and not before.is_paused:
        yield f"paused; its records are kept: dagster-offload sink resume {now.name}"
    if before.is_paused and not now.is_paused:
        yield "no longer paused"
    if now.reason is not None and before.reason is None:
        yield f"{escaped(now.reason)}; its records wait, and none is lost"
    elif now.refused is not None and not _has_problem(before):
        yield f"did not take a record: {escaped(now.refused)}; it is tried again"
    if now.dead and not before.dead:
        records = counted(now.dead, "record", MOST_DEAD_COUNTED)
        yield f"refused {records} for good; correct the cause, then dagster-offload retry --sink {now.name}"
    if _has_problem(before) and not _has_problem(now) and not now.is_paused:
        yield "takes its records again"


def _has_problem(sink: SinkState) -> bool:
    return sink.reason is not None or sink.refused is not None or sink.dead > 0
