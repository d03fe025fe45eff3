"""What happened in the ledger since the last look, for the lines that `up` prints. Only reads, and at a bounded cost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from dagster_offload.ledger.core.database import Cursor, fetch_one, see_one_moment
from dagster_offload.ledger.core.rows import SlotRow
from dagster_offload.ledger.reports import recipients
from dagster_offload.ledger.reports.activity import FailedScan, failed_scan
from dagster_offload.ledger.reports.recipients import ChannelFault, SinkState
from dagster_offload.ledger.reports.status import ProblemGroup, problem_groups_of
from dagster_offload.ledger.slots import availability, holds, rests, slots
from dagster_offload.ledger.slots.availability import Absence
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.ledger.work import counts
from dagster_offload.slot.rest import Pause

KINDS = ("scan", "extract", "drain", "run")
MOST_COUNTED = 1_000
NAMED = 3  # documents of a group


@dataclass(frozen=True)
class ScanEnd:
    """A scan that ended, in documents. `unusable_names`: the files that cannot be documents because of their names, by now."""

    found: int
    added: int
    changed: int
    returned: int
    vanished: int
    unusable_names: int = 0


@dataclass(frozen=True)
class WorkerNews:
    """A worker and what it has done since the first look at it, in documents. A scan that only walks has no stages.

    `done` and `failed` are those of which it ended the last work, so that each document is counted once over all workers that
    follow each other. `answered_in_part`: those with an answer of this worker that are among the ones left. `number` rises
    from worker to worker. `death` says how it died, and `freed` is how many documents it held then.
    """

    kind: str
    stages: list[str]
    done: int = 0
    failed: int = 0
    answered_in_part: int = 0
    number: int = 0
    death: str = ""
    freed: int = 0

    @property
    def reads_texts(self) -> bool:
        """Whether it makes texts of files. What it has done is a document's text, not all of the document's stages."""
        return self.kind in ("scan", "extract")


@dataclass(frozen=True)
class News:
    """`started`, `ended` and `alive` are workers; `failed` is what failed since the last look, grouped by its reason.

    All numbers are of one moment. `channels`: those of the pipeline file, `channel_faults`: what is wrong with them.
    `left` counts documents that are due, deferred or in work, up to `MOST_COUNTED`; `texts_left` those of them whose text is
    left; `need_you` those that failed or are quarantined; `documents` those that are present, counted only if nothing is left.
    `failed_scan` is the newest scan if it has failed since the last look.
    """

    slots: dict[str, SlotRow] = field(default_factory=dict)
    holds: list[Hold] = field(default_factory=list)
    pauses: dict[str, Pause] = field(default_factory=dict)
    absences: dict[str, Absence] = field(default_factory=dict)
    sinks: dict[str, SinkState] = field(default_factory=dict)
    channels: Collection[str] = ()
    channel_faults: dict[str, ChannelFault] = field(default_factory=dict)
    scans: list[ScanEnd] = field(default_factory=list)
    started: list[WorkerNews] = field(default_factory=list)
    ended: list[WorkerNews] = field(default_factory=list)
    alive: list[WorkerNews] = field(default_factory=list)
    failed: list[ProblemGroup] = field(default_factory=list)
    left: int = 0
    texts_left: int = 0
    need_you: int = 0
    documents: int = 0
    failed_scan: FailedScan | None = None


@dataclass(frozen=True)
class Marks:
    """Where the last look ended. `workers` maps those that were alive to the last transition before they were seen."""

    worker: int
    scan: int
    transition: int
    workers: dict[int, int] = field(default_factory=dict)
    failed_scan: str | None = None  # the run's id


def begin(cur: Cursor, worker_id: int | None) -> Marks:
    """Marks such that the first look sees everything since this worker registered; None: only what is still to come."""
    if worker_id is None:
        worker_id = int(fetch_one(cur, "select max(worker_id) as n from workers")["n"])
    row = fetch_one(
        cur,
        "select coalesce((select scan_id from scans s where s.started_at < w.started_at "
        "    order by scan_id desc limit 1), 0) as scan, "
        "  coalesce((select transition_id from transitions t where t.at < w.started_at "
        "    order by transition_id desc limit 1), 0) as transition from workers w where w.worker_id = %s",
        [worker_id],
    )
    return Marks(worker_id, int(row["scan"]), int(row["transition"]), failed_scan=_run_id(failed_scan(cur)))


def read(
    cur: Cursor, since: Marks, *, with_progress: bool = False, channels: Collection[str] = ()
) -> tuple[News, Marks]:
    """What happened since these marks, and the marks for the next look. `channels`: those of the pipeline file.

    `with_progress`: also count what the living workers have done, which costs a tenth of a second an hour of their work.
    """
    see_one_moment(cur)
    last = int(fetch_one(cur, "select coalesce(max(transition_id), 0) as n from transitions")["n"])
    looked = _read_workers(cur, since, with_progress=with_progress)
    cur.execute(
        "select scan_id, found, added, changed, returned, vanished, "
        "(select count(*) from unusable_names) as unusable_names from scans "
        "where scan_id > %s and ended_at is not null order by scan_id",
        [since.scan],
    )
    scans = cur.fetchall()
    left, failed = count_left(cur), failed_scan(cur)
    known = {row.name: row for row in slots.list_slots(cur)}
    now = News(
        slots=known,
        absences={name: found for name in known if (found := availability.absence(cur, name)) is not None},
        holds=holds.list_holds(cur),
        pauses=rests.pauses(cur),
        sinks=recipients.sink_states(cur),
        channels=channels,
        channel_faults=recipients.channel_faults(cur, channels),
        scans=[ScanEnd(**{name: row[name] for name in row if name != "scan_id"}) for row in scans],
        started=looked.started,
        ended=looked.ended,
        alive=looked.alive,
        failed=problem_groups_of(cur, failed_transitions(cur, since.transition), NAMED),
        left=left,
        texts_left=count_texts_left(cur) if left else 0,
        need_you=count_failed(cur),
        documents=0 if left else counts.count_documents(cur),
        failed_scan=None if _run_id(failed) == since.failed_scan else failed,
    )
    newest_scan = max([since.scan, *(row["scan_id"] for row in scans)])
    return now, Marks(looked.newest, newest_scan, last, looked.marks, _run_id(failed))


def _run_id(scan: FailedScan | None) -> str | None:
    return None if scan is None else scan.run_id


@dataclass(frozen=True)
class _Workers:
    """The workers that began, ended or live. `marks` are those of the living ones for the next look."""

    started: list[WorkerNews]
    ended: list[WorkerNews]
    alive: list[WorkerNews]
    marks: dict[int, int]
    newest: int


def _read_workers(cur: Cursor, since: Marks, *, with_progress: bool) -> _Workers:
    cur.execute(
        "select worker_id, kind, stages, ended_at is not null as has_ended, was_reclaimed from workers "
        "where kind = any(%s) and (worker_id > %s or worker_id = any(%s)) order by worker_id",
        [list(KINDS), since.worker, list(since.workers)],
    )
    found = cur.fetchall()
    started: list[WorkerNews] = []
    ended: list[WorkerNews] = []
    alive: list[WorkerNews] = []
    marks = {}
    for row in found:
        worker_id, has_ended, is_new = row["worker_id"], row["has_ended"], row["worker_id"] not in since.workers
        mark = since.workers.get(worker_id, since.transition)
        worker = WorkerNews(row["kind"], row["stages"], number=worker_id)
        if has_ended or is_new or with_progress:
            worker = _with_counts(cur, worker, mark, since.worker)
        if row["was_reclaimed"]:
            worker = _with_death(cur, worker, mark)
        (ended if has_ended else alive).append(worker)
        if is_new:
            started.append(worker)
        if not has_ended:
            marks[worker_id] = mark
    return _Workers(started, ended, alive, marks, max([since.worker, *(row["worker_id"] for row in found)]))


def _with_counts(cur: Cursor, worker: WorkerNews, mark: int, newest: int) -> WorkerNews:
    """The worker with how many documents it has done, failed and answered in part since a transition.

    A scan or an extraction has done a document if its text is there. A drain or a run has done one if no stage of it is left,
    also none that the worker does not take, if none has failed, and if no other worker has ended a stage of it since. Answered in
    part are those that are left now, or that a later worker has ended since. `newest`: the newest worker at the look before. Only
    what later ones have ended counts as left when this one ended.
    """
    if worker.reads_texts:
        counts = _texts_read(cur, worker.number, mark)
    else:
        counts = fetch_one(
            cur,
            "with ended as (select document_id, max(transition_id) as last, bool_or(to_state = 'done') as is_done "
            "  from transitions where transition_id > %(mark)s and worker_id = %(worker)s "
            "  and to_state in ('done', 'failed', 'quarantined') group by document_id), "
            "found as (select e.is_done, "
            f"  exists (select from work_items i where i.document_id = e.document_id and {_IS_LEFT}) as is_left, "
            "  (select max(t.worker_id) from transitions t where t.document_id = e.document_id and t.transition_id > e.last "
            "    and t.worker_id <> %(worker)s and t.to_state in ('done', 'failed', 'quarantined')) as ended_by, "
            f"  exists (select from work_items i where i.document_id = e.document_id and {_NEEDS_YOU}) as needs_you "
            "  from ended e) "
            "select count(*) filter (where not is_left and ended_by is null and not needs_you) as done, "
            "  count(*) filter (where not is_left and ended_by is null and needs_you) as failed, "
            "  count(*) filter (where is_done and (is_left or ended_by > greatest(%(worker)s, %(newest)s))) as answered_in_part "
            "from found",
            {"mark": mark, "worker": worker.number, "newest": newest},
        )
    return replace(
        worker, done=counts["done"], failed=counts["failed"], answered_in_part=counts.get("answered_in_part", 0)
    )


def _with_death(cur: Cursor, worker: WorkerNews, mark: int) -> WorkerNews:
    row = fetch_one(
        cur,
        "select count(distinct document_id) as freed, coalesce(min(reason), '') as death from transitions "
        "where transition_id > %(mark)s and worker_id = %(worker)s and from_state = 'claimed' and to_state = 'pending' "
        "and reason like 'worker ' || %(worker)s || ' %%'",
        {"mark": mark, "worker": worker.number},
    )
    return replace(worker, **row)


def _texts_read(cur: Cursor, worker_id: int, mark: int) -> dict[str, int]:
    return fetch_one(
        cur,
        "select count(*) filter (where is_done) as done, count(*) filter (where not is_done) as failed from ("
        "  select bool_or(to_state = 'done') as is_done from transitions "
        "  where transition_id > %(mark)s and worker_id = %(worker)s and stage = first_stage() "
        "  and to_state in ('done', 'failed', 'quarantined') group by document_id) ended",
        {"mark": mark, "worker": worker_id},
    )


# Of a stage of the pipeline: the items of one that was removed are kept, and nothing takes them.
_IN_PIPELINE = "i.stage = any(array(select name from stages))"
_IS_LEFT = f"i.state in ('pending', 'deferred', 'claimed') and {_IN_PIPELINE}"
_NEEDS_YOU = f"i.state in ('failed', 'quarantined') and {_IN_PIPELINE}"


def failed_transitions(cur: Cursor, mark: int) -> list[int]:
    """The transitions after `mark` to failed or quarantined."""
    cur.execute(
        "select transition_id from transitions where transition_id > %s and to_state in ('failed', 'quarantined') "
        "order by transition_id",
        [mark],
    )
    return [row["transition_id"] for row in cur.fetchall()]


def count_still_failed(cur: Cursor, transitions: Sequence[int]) -> int:
    """The documents whose work failed by these transitions and is still failed."""
    row = fetch_one(
        cur,
        "select count(distinct i.document_id) as n from transitions t join work_items i on i.document_id = t.document_id "
        "and i.stage = t.stage and i.state = t.to_state where t.transition_id = any(%s)",
        [list(transitions)],
    )
    return int(row["n"])


def count_left(cur: Cursor) -> int:
    """The documents that are due, deferred or in work, up to `MOST_COUNTED`."""
    row = fetch_one(
        cur,
        "select count(distinct document_id) as n from ("
        f"  (select document_id from work_items i where state in ('pending', 'deferred') and {_IN_PIPELINE} limit %(items)s) "
        f"  union all (select document_id from work_items i where state = 'claimed' and {_IN_PIPELINE} limit %(items)s)) w",
        {"items": MOST_COUNTED * 3},
    )
    return min(int(row["n"]), MOST_COUNTED)


def count_texts_left(cur: Cursor) -> int:
    """The documents whose text is to be made, up to `MOST_COUNTED`."""
    row = fetch_one(
        cur,
        "select count(*) as n from (select from work_items "
        "  where stage = first_stage() and state in ('pending', 'deferred', 'claimed') limit %s) w",
        [MOST_COUNTED],
    )
    return int(row["n"])


def count_failed(cur: Cursor) -> int:
    """The documents that failed or are quarantined."""
    row = fetch_one(
        cur,
        f"select count(distinct document_id) as n from work_items i where {_NEEDS_YOU}",
    )
    return int(row["n"])
