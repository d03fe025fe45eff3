"""Removes old runs and their logs from the Dagster instance of this home, so that it stays small for years.

`instance.delete_run` removes a run with all its events. Dagster's UI takes a partition's state from its latest
materialization, so a run that holds one is kept. Of such a run, only the events that are not about assets are removed
(starts, steps, log lines): Dagster has no public method for that, and a contract test covers the table that is used.
"""

import shutil
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import sqlalchemy as sa
from dagster_postgres.event_log import PostgresEventLogStorage

from dagster_offload.defs.instance import dagster_home
from dagster_offload.defs.names import names_of
from dagster_offload.defs.shown.overview import overview_keys, slot_keys
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.retention import gone, history
from dagster_offload.ledger.retention.history import Kept
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import stage_graph

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
UNFINISHED = [status for status in dg.DagsterRunStatus if status not in FINISHED]
PAGE = 200
_BEFORE_ALL_RUNS = datetime(1970, 1, 1, tzinfo=UTC)  # Python's calendar begins only in the year 1
LEDGER, RUNS = "history", "runs"  # names in the table `upkeep`


def keep_small(
    settings: Settings, ledger: Ledger, get_instance: Callable[[], dg.DagsterInstance], seconds: float
) -> bool:
    """Remove what is older than the settings say, once a day, for at most about `seconds`. Returns whether it is complete.

    If it is not, the next call goes on where this one ended. Between two days it costs two queries and does
    not open the instance. Dagster's runs are removed only in the
    instance of this home: the runs of another instance belong to its owner.
    """
    deadline = time.monotonic() + seconds
    if ledger.run(history.is_due, LEDGER):
        kept = Kept(settings.keep.history_days, settings.keep.history_rows)
        if not history.purge_history(ledger, kept, seconds):
            return False
        if settings.keep.gone_days is not None and not gone.remove(
            ledger, settings.keep.gone_days, deadline - time.monotonic()
        ):
            return False
        ledger.run(history.mark_done, LEDGER)
    if ledger.run(history.is_due, RUNS):
        instance = get_instance()
        if _is_ours(instance, settings):
            reached = purge_runs(instance, settings, deadline, Reached.read(ledger.run(history.position, RUNS)))
            ledger.run(history.set_position, RUNS, None if reached is None else str(reached))
            if reached is not None:
                return False
        ledger.run(history.mark_done, RUNS)
    return True


def _is_ours(instance: dg.DagsterInstance, settings: Settings) -> bool:
    is_in_home = Path(instance.root_directory) == dagster_home(settings)
    return is_in_home and isinstance(instance.event_log_storage, PostgresEventLogStorage)


@dataclass(frozen=True)
class Reached:
    """What a purge has looked at: all before the selection with this number, and of that one the runs down to `run_id`."""

    selection: int = 0
    run_id: str | None = None

    def __str__(self) -> str:
        return f"{self.selection} {self.run_id or ''}"

    @classmethod
    def read(cls, text: str | None) -> "Reached":
        """The inverse of `str`. None: nothing was looked at."""
        selection, _, run_id = (text or "0 ").partition(" ")
        return cls(int(selection), run_id or None)


def purge_runs(
    instance: dg.DagsterInstance, settings: Settings, deadline: float, reached: Reached | None = None
) -> Reached | None:
    """Remove runs that ended more than `keep.runs_days` ago, and the oldest beyond `keep.runs`.

    Returns None if no such run is left, and otherwise where to go on: `deadline` (of the monotonic clock) passed before.
    """
    reached = reached or Reached()
    now = datetime.now(UTC)
    cutoff = now - min(timedelta(days=settings.keep.runs_days), now - _BEFORE_ALL_RUNS)
    newest = instance.get_run_ids(dg.RunsFilter(statuses=FINISHED), limit=settings.keep.runs)
    beyond = newest[-1] if len(newest) == settings.keep.runs else None
    too_old = dg.RunsFilter(statuses=FINISHED, updated_before=cutoff)
    too_many = dg.RunsFilter(statuses=FINISHED)
    selections = [(too_old, None), *([(too_many, beyond)] if beyond else [])]
    for number, (wanted, after) in list(enumerate(selections))[reached.selection :]:
        if number == reached.selection and reached.run_id is not None and instance.has_run(reached.run_id):
            after = reached.run_id
        while page := instance.get_run_ids(wanted, cursor=after, limit=PAGE):
            held = _holders(instance, page)
            for run_id in page:
                if run_id not in held:
                    _remove_files(instance, run_id)
                    _remove_check_results(instance, run_id)
                    instance.delete_run(run_id)
                    if time.monotonic() > deadline:
                        return Reached(number, after)
            _remove_log_events(instance, sorted(held))
            # The cursor's run must still exist: its row says where the next page begins.
            kept = [run_id for run_id in page if run_id in held]
            after = kept[-1] if kept else after
            if time.monotonic() > deadline:
                return Reached(number, after)
    _remove_old_files(instance, cutoff)
    _remove_old_numbers(instance, settings, cutoff)
    return None


# All statements are for Postgres. An event of an asset without partitions always counts as its latest.
_HOLDERS = sa.text("""
    select given.run_id from unnest(cast(:run_ids as text[])) as given (run_id) where exists (
        select from event_logs e
        where e.run_id = given.run_id and e.dagster_event_type = 'ASSET_MATERIALIZATION' and (e.partition is null or (
            not exists (select from event_logs newer where newer.asset_key = e.asset_key and newer.partition = e.partition
                and newer.dagster_event_type = e.dagster_event_type and newer.id > e.id)
            and exists (select from dynamic_partitions p where p.partition = e.partition))))
""")
# The first event of a run is about its start, so a run whose first event is about an asset was handled before.
_REMOVE_LOG_EVENTS = sa.text("""
    delete from event_logs where run_id in (
        select given.run_id from unnest(cast(:run_ids as text[])) as given (run_id) cross join lateral (
            select dagster_event_type as type from event_logs e where e.run_id = given.run_id order by e.id limit 1) first_event
        where coalesce(first_event.type, '') <> all(cast(:kept as text[]))
    ) and coalesce(dagster_event_type, '') <> all(cast(:kept as text[]))
""")
# `delete_run` leaves the results of asset checks. The newest one of each partition is its state.
_REMOVE_CHECK_RESULTS = sa.text("""
    delete from asset_check_executions c where c.run_id = :run_id and exists (
        select from asset_check_executions newer where newer.asset_key = c.asset_key and newer.check_name = c.check_name
            and newer.partition is not distinct from c.partition and newer.id > c.id)
""")
# Points of the plots belong to no run. The newest stays: it is what the asset shows.
_REMOVE_NUMBERS = sa.text("""
    delete from event_logs e where e.asset_key = any(cast(:keys as text[])) and e.run_id = '' and e.timestamp < :cutoff
    and exists (select from event_logs newer where newer.asset_key = e.asset_key and newer.id > e.id)
""")
# So do the results of `documents_that_need_you`. The newest of each asset stays.
_REMOVE_OLD_CHECK_RESULTS = sa.text("""
    delete from asset_check_executions c where c.run_id = '' and c.create_timestamp < :cutoff and exists (
        select from asset_check_executions newer where newer.asset_key = c.asset_key and newer.check_name = c.check_name
            and newer.partition is not distinct from c.partition and newer.id > c.id)
""")
_REMOVE_THEIR_EVENTS = sa.text("""
    delete from event_logs e where e.run_id = '' and e.dagster_event_type = 'ASSET_CHECK_EVALUATION'
    and e.timestamp < :cutoff
    and not exists (select from asset_check_executions c where c.evaluation_event_storage_id = e.id)
""")
_ABOUT_ASSETS = ["ASSET_MATERIALIZATION", "ASSET_OBSERVATION", "ASSET_CHECK_EVALUATION"]


def _holders(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> set[str]:
    """Those of these runs that hold the latest materialization of a partition that still exists."""
    with _events(instance) as connection:
        return set(connection.execute(_HOLDERS, {"run_ids": list(run_ids)}).scalars())


def _remove_check_results(instance: dg.DagsterInstance, run_id: str) -> None:
    with _events(instance) as connection:
        connection.execute(_REMOVE_CHECK_RESULTS, {"run_id": run_id})


def _remove_log_events(instance: dg.DagsterInstance, run_ids: Collection[str]) -> None:
    with _events(instance) as connection:
        connection.execute(_REMOVE_LOG_EVENTS, {"run_ids": list(run_ids), "kept": _ABOUT_ASSETS})


def _remove_old_numbers(instance: dg.DagsterInstance, settings: Settings, cutoff: datetime) -> None:
    stages = names_of(stage_graph(settings)).keys  # the instance of a home has no prefix
    keys = {*overview_keys(stages).values(), *slot_keys(stages, settings.slots_section.further).values()}
    parameters = {"keys": [key.to_string() for key in keys], "cutoff": cutoff.replace(tzinfo=None)}
    with _events(instance) as connection:
        connection.execute(_REMOVE_NUMBERS, parameters)
        for statement in (_REMOVE_OLD_CHECK_RESULTS, _REMOVE_THEIR_EVENTS):
            connection.execute(statement, {"cutoff": cutoff.replace(tzinfo=None)})


def _events(instance: dg.DagsterInstance) -> AbstractContextManager[sa.Connection]:
    storage = instance.event_log_storage
    assert isinstance(storage, PostgresEventLogStorage)  # noqa: S101 - `keep_small` checks it
    return storage.index_connection()


def _remove_files(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remove the captured output of a run's steps."""
    shutil.rmtree(Path(instance.storage_directory()) / run_id, ignore_errors=True)


def _remove_old_files(instance: dg.DagsterInstance, cutoff: datetime) -> None:
    """Remove the captured output of runs that are kept, or that a person deleted in the UI."""
    folder = Path(instance.storage_directory())
    if not folder.is_dir():
        return
    old = [entry.name for entry in folder.iterdir() if _is_run_id(entry.name) and _changed_before(entry, cutoff)]
    for start in range(0, len(old), PAGE):
        page = old[start : start + PAGE]
        running = set(instance.get_run_ids(dg.RunsFilter(run_ids=page, statuses=UNFINISHED)))
        for run_id in page:
            if run_id not in running:
                _remove_files(instance, run_id)


def _is_run_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


def _changed_before(entry: Path, cutoff: datetime) -> bool:
    try:
        return entry.stat().st_mtime < cutoff.timestamp()
    except OSError:  # it was removed meanwhile
        return False
