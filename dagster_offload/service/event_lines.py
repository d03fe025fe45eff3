"""The lines that `up` prints while it runs: a scan that found something, a slot that is back, what a drain did, what is left.

A thread looks at the ledger when the ledger sends a notification, at most every two seconds, and every ten minutes while a
worker is alive. If nothing happens, it costs nothing.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.reports import news
from dagster_offload.ledger.reports.news import MOST_COUNTED, Marks, News, ScanEnd, WorkerNews
from dagster_offload.ledger.slots import availability
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.service.recipient_lines import recipient_lines
from dagster_offload.service.say import Say
from dagster_offload.slot.config import PRIMARY
from dagster_offload.slot.rest import Pause
from dagster_offload.text.counts import agreeing, counted
from dagster_offload.text.plain_text import escaped

LOOK_EVERY_SECONDS = 2.0
PROGRESS_EVERY_SECONDS = 600.0
GROUPS_NAMED = 3
LAST_LOOK_SECONDS = 3.0  # `up` has seconds to stop, and Postgres may be down


def lines(before: News, now: News, *, is_end_owed: bool = False) -> list[str]:
    """What happened between two looks, one line per event. `is_end_owed`: `owes_end` of the looks before."""
    return [
        *(line for scan in now.scans if (line := _scan(scan)) is not None),
        *(line for slot in now.slots.values() if (line := _slot(slot, before, now)) is not None),
        *(f"{hold.slot}: {_held(hold)}; {hold.next_step}" for hold in _new_holds(before, now)),
        *(f"{name}: {_paused(pause)}" for name, pause in _new_pauses(before, now)),
        *(f"{name}: no longer paused; {_left(now)} left" for name in now.slots if _is_resumed(name, before, now)),
        *recipient_lines(before, now),
        *_failed_scan(now),
        *(f"drain: started, {_left(now, worker.number)} left" for worker in now.started if worker.kind == "drain"),
        *(f"{_name(worker)}: {worker.death}; {_freed(worker)}" for worker in now.ended if worker.freed),
        *(line for worker in now.ended if (line := _ended(worker, now)) is not None),
        *_failed(now),
        *([_all_done(now)] if _is_end(before, now, is_end_owed) and not now.alive else []),
    ]


def progress(now: News) -> list[str]:
    """What the living workers have done so far."""
    return [
        _line(worker, f"{_done(worker)} so far", now)
        for worker in now.alive
        if worker.done or worker.failed or worker.answered_in_part
    ]


def what_is_left(now: News) -> str:
    """The last line of `up`: how many documents wait, for what, and how many need a person."""
    needs = f"{_documents(now.need_you)} {agreeing('need', now.need_you)} you: dagster-offload status"
    if not now.left:
        # No scan may have ended yet.
        known = f", {_documents(now.documents)} in all" if now.documents else "; no document is known"
        return f"Left: nothing{known}" + (f"; {needs}" if now.need_you else "")
    rests = {name: _paused(pause) for name, pause in now.pauses.items() if name in now.slots}
    absences = {slot.name: why for slot in now.slots.values() if (why := _why_away(slot, now)) is not None}
    away = [
        why if len(now.slots) == 1 else f"{name}: {why}" for names in (rests, absences) for name, why in names.items()
    ]
    away += [_held(hold) for hold in now.holds if hold.left]
    why = f" ({'; '.join(away)})" if away else ""
    return f"Left: {_many(now.left)}{why}" + (f"; {needs}" if now.need_you else "")


def _scan(scan: ScanEnd) -> str | None:
    counts = {"new": scan.added, "changed": scan.changed, "returned": scan.returned, "gone": scan.vanished}
    found = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    if not found:
        return None
    names = scan.unusable_names
    left_out = f"; {counted(names, 'name')} cannot be {'a document' if names == 1 else 'documents'}" if names else ""
    return f"scan: {found}, {_documents(scan.found)} in all{left_out}"


def _failed_scan(now: News) -> Iterator[str]:
    if (failed := now.failed_scan) is not None:
        at_latest = f"{failed.next_by.astimezone():%H:%M}"
        yield f"scan: failed, and tried again by {at_latest} if files still differ: {failed.why}"


def _freed(worker: WorkerNews) -> str:
    return f"{_documents(worker.freed)} that it held {agreeing('are', worker.freed)} free again"


def _slot(slot: SlotRow, before: News, now: News) -> str | None:
    """The line about a slot that is no longer available, or available again. It says nothing of a pause."""
    earlier = before.slots.get(slot.name)
    if slot.breaker is BreakerState.MISCONFIGURED and (earlier is None or earlier.breaker is not slot.breaker):
        return f"{slot.name}: {_reason(slot)}; `dagster-offload doctor` names the setting to change"
    why, was_away = _why_away(slot, now), earlier is not None and _why_away(earlier, before) is not None
    if why is not None:
        return None if was_away else f"{slot.name}: {why}; {_what_waits(slot, now)}"
    if earlier is None or slot.name in now.absences:
        return None
    if was_away:
        return f"{slot.name}: the slot is back; {_left(now)} left"
    return f"{slot.name}: the slot was away for a moment, and is back" if slot.epoch > earlier.epoch else None


def _what_waits(slot: SlotRow, now: News) -> str:
    if not now.left:
        return "no document waits"
    waits = "left" if _goes_on_elsewhere(slot, now) else agreeing("wait", now.left)
    return f"{_many(now.left)} {waits}, and none is lost"


def _goes_on_elsewhere(slot: SlotRow, now: News) -> bool:
    """Whether another slot of drains can be used, so that not all that is left waits."""
    unusable = {slot.name, PRIMARY, *now.pauses}
    others = [other for name, other in now.slots.items() if name not in unusable]
    return any(_why_away(other, now) is None for other in others)


def _why_away(slot: SlotRow, news_then: News) -> str | None:
    """Why a slot is unavailable, or rests for another reason than a pause; None if it does not. The breaker comes first."""
    if slot.breaker is not BreakerState.CLOSED:
        return _reason(slot)
    absence = None if slot.name in news_then.pauses else news_then.absences.get(slot.name)
    return None if absence is None or absence.reason is None else escaped(absence.reason)


def _new_holds(before: News, now: News) -> list[Hold]:
    known = {(hold.slot, hold.stage, hold.since) for hold in before.holds}
    return [hold for hold in now.holds if (hold.slot, hold.stage, hold.since) not in known]


def _held(hold: Hold) -> str:
    return f"the stage {hold.stage} is held: {escaped(hold.reason_text)}; {hold.left_text}"


def _new_pauses(before: News, now: News) -> list[tuple[str, Pause]]:
    """The pauses of known slots that are new or have another end."""
    return [
        (name, pause) for name, pause in now.pauses.items() if name in now.slots and before.pauses.get(name) != pause
    ]


def _is_resumed(name: str, before: News, now: News) -> bool:
    return name in before.pauses and name not in now.pauses


def _paused(pause: Pause) -> str:
    return "paused" if pause.until is None else f"paused until {pause.until.astimezone():%a %d %b %H:%M}"


def _reason(slot: SlotRow) -> str:
    return f"{slot.breaker.in_words}, {escaped(slot.reason_text)}"


def _name(worker: WorkerNews) -> str:
    return "text" if worker.reads_texts else worker.kind


def _ended(worker: WorkerNews, now: News) -> str | None:
    if not (worker.done or worker.failed or worker.answered_in_part) and worker.kind != "drain":
        return None
    return _line(worker, _done(worker), now)


def _line(worker: WorkerNews, done: str, now: News) -> str:
    return "; ".join(filter(None, (f"{_name(worker)}: {done}", _left_of(worker, now))))


def _done(worker: WorkerNews) -> str:
    """`3 done, 1 failed`. With those that were left when the worker ended, they are those that were left when it started."""
    return f"{worker.done} done" + (f", {worker.failed} failed" if worker.failed else "")


def _left_of(worker: WorkerNews, now: News) -> str:
    """`5 documents left, 2 of them answered in part`, when the worker ended or, if it is alive, now. For those that make texts:
    `5 texts left`. Empty if nothing was left."""
    if worker.reads_texts:
        return f"{counted(now.texts_left, 'text', MOST_COUNTED)} left" if now.texts_left else ""
    left = _count_left(now, worker.number + 1)
    if not left:
        return ""
    in_part = f", {worker.answered_in_part} of them answered in part" if worker.answered_in_part else ""
    return f"{_many(left)} left{in_part}"


def _left(now: News, number: int = 0) -> str:
    return _many(_count_left(now, number))


def _count_left(now: News, number: int = 0) -> int:
    """How many documents were left for slots before the workers from this `number` on started, of those that started since the
    last look: what they have ended was left then. Texts that are still to be made are left for a scan."""
    later = [worker for worker in now.started if worker.number >= number and not worker.reads_texts]
    left = now.left if now.left >= MOST_COUNTED else now.left - now.texts_left  # counting stopped at so many
    return left + sum(worker.done + worker.failed for worker in later)


def _failed(now: News) -> Iterator[str]:
    for group in now.failed[:GROUPS_NAMED]:
        yield group.line()
    if more := sum(group.count for group in now.failed[GROUPS_NAMED:]):
        yield f"failed: {more:,} more; `dagster-offload status` lists them"


def owes_end(before: News, now: News, is_end_owed: bool) -> bool:
    """Whether all is done and the line about it must wait: while a worker is alive, its own line is still to come."""
    return _is_end(before, now, is_end_owed) and bool(now.alive)


def _is_end(before: News, now: News, is_end_owed: bool) -> bool:
    did_something = any(worker.done or worker.failed for worker in now.ended)
    return not now.left and (before.left > 0 or did_something or is_end_owed)


def _all_done(now: News) -> str:
    needs = f", {now.need_you} of them {agreeing('need', now.need_you)} you (dagster-offload status)"
    return f"all done: {_documents(now.documents)}" + (needs if now.need_you else "")


def _documents(count: int) -> str:
    return counted(count, "document")


def _many(count: int) -> str:
    return counted(count, "document", MOST_COUNTED)


def _begin(cur: Cursor, worker_id: int | None) -> Marks:
    availability.forget_reasons(cur)
    return news.begin(cur, worker_id)


class EventLines:
    """Prints the lines from a thread. `notified` may be called from any thread.

    The first look sees what happened since the worker `worker_id` registered; None: since the first look. `channels`: those of
    notifications in the pipeline file.
    """

    def __init__(
        self,
        ledger: Ledger,
        worker_id: int | None,
        say: Say,
        *,
        channels: Callable[[], Collection[str]] = tuple,
        look_every: float = LOOK_EVERY_SECONDS,
        progress_every: float = PROGRESS_EVERY_SECONDS,
    ) -> None:
        self._ledger = ledger
        self._worker_id = worker_id
        self._say = say
        self._channels = channels
        self._look_every = look_every
        self._progress_every = progress_every
        self._wake, self._over = threading.Event(), threading.Event()
        self._news = News()
        self._is_end_owed = False
        self._marks: Marks | None = None

    def notified(self, _message: str) -> None:
        """Look soon: the ledger has changed."""
        self._wake.set()

    def run(self) -> None:
        """Print lines until `end`."""
        self._look()
        while not self._over.wait(self._look_every):
            is_notified = self._wake.wait(self._progress_every if self._news.alive else None)
            self._wake.clear()
            self._look(with_progress=not is_notified)
        self._look()

    def _look(self, *, with_progress: bool = False) -> None:
        before = self._news
        try:
            marks = self._marks or self._ledger.run(_begin, self._worker_id)
            self._news, self._marks = self._ledger.run(
                news.read, marks, with_progress=with_progress, channels=self._channels()
            )
        except LedgerUnavailable:  # a notification comes when it is back
            return
        found = lines(before, self._news, is_end_owed=self._is_end_owed)
        self._is_end_owed = owes_end(before, self._news, self._is_end_owed)
        for line in (*found, *(progress(self._news) if with_progress else ())):
            self._say(line)

    def end(self) -> None:
        """Stop the thread's loop. It looks once more."""
        self._over.set()
        self._wake.set()

    @property
    def left(self) -> str | None:
        """What is left, as of the last look; None if there was none."""
        return None if self._marks is None else what_is_left(self._news)


@contextlib.contextmanager
def printing(event_lines: EventLines) -> Iterator[None]:
    """Print the lines during the block."""
    thread = threading.Thread(target=event_lines.run, name="event-lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        event_lines.end()
        thread.join(LAST_LOOK_SECONDS)
