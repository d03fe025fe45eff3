"""The pipelines of running `up` processes. A process with other recipes, or with other slots or another order of
the slots for a stage, refuses to write."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from dagster_offload import timing
from dagster_offload.errors import OtherPipeline
from dagster_offload.host.machine import boot_id, host_name
from dagster_offload.ledger.core.database import Cursor, notify
from dagster_offload.stages.pipeline import LIBRARY, Pipeline, difference

PIPELINE_MESSAGE = "pipeline:"


@dataclass(frozen=True)
class AnnouncedPipeline:
    """The pipeline of an `up` that is alive. `problem` says why an edit of its file is not in force."""

    pid: int
    host: str
    file: str | None
    problem: str | None
    pipeline: Pipeline


def announce(cur: Cursor, worker_id: int, pipeline: Pipeline, file: str | None, problem: str | None = None) -> None:
    """Store what the `up` with this worker works with. Notifies all workers: those with another pipeline end."""
    notify(cur, pipeline_message(pipeline))
    cur.execute(
        "insert into pipelines (worker_id, recipes, settings, version, file, problem) "
        "values (%(worker)s, %(recipes)s, %(settings)s, %(version)s, %(file)s, %(problem)s) "
        "on conflict (worker_id) do update set recipes = excluded.recipes, settings = excluded.settings, "
        "version = excluded.version, file = excluded.file, problem = excluded.problem",
        {
            "worker": worker_id,
            "recipes": Jsonb(dict(pipeline.recipes)),
            "settings": Jsonb(dict(pipeline.settings)),
            "version": pipeline.version,
            "file": file,
            "problem": problem,
        },
    )


def pipeline_message(pipeline: Pipeline) -> str:
    """The notification that these recipes are in force, and that these slots may answer the stages, in this order."""
    parts = [f"{stage} {recipe} {pipeline.ranks_of(stage)}" for stage, recipe in sorted(pipeline.recipes.items())]
    return PIPELINE_MESSAGE + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def running_pipeline(cur: Cursor) -> AnnouncedPipeline | None:
    """The pipeline of the `up` that runs; None without one."""
    return next(iter(running_pipelines(cur)), None)


def recipes_in_force(running: AnnouncedPipeline | None, own: Mapping[str, str]) -> Mapping[str, str]:
    """The recipes of the running `up`, else one's own: what that `up` has made is not outdated where other settings are read."""
    return own if running is None else running.pipeline.recipes


def running_pipelines(cur: Cursor) -> list[AnnouncedPipeline]:
    """The pipelines of every `up` that is alive, the oldest first. Only reads."""
    cur.execute(
        "select w.pid, w.host, w.boot_id, p.file, p.problem, p.recipes, p.settings, p.version "
        "from pipelines p join workers w using (worker_id) where w.ended_at is null "
        "and greatest(w.heartbeat_at, pg_postmaster_start_time()) >= clock_timestamp() - make_interval(secs => %s) "
        "order by worker_id",
        [timing.current().lease],
    )
    return [
        AnnouncedPipeline(
            pid=row["pid"],
            host=row["host"],
            file=row["file"],
            problem=row["problem"],
            pipeline=Pipeline(row["recipes"], row["settings"], row["version"]),
        )
        for row in cur.fetchall()
        if not _has_died(row["host"], row["boot_id"], row["pid"])
    ]


def refuse_other_pipeline(cur: Cursor, here: Pipeline) -> None:
    """Raise `OtherPipeline` if a running `up` works with other recipes or slots than `here`."""
    for running in running_pipelines(cur):
        if (what := difference(here, running.pipeline)) is not None:
            on_host = "" if running.host == host_name() else f" on {running.host}"
            its_file = "no pipeline file" if running.file is None else f"the pipeline file {running.file}"
            edit = "" if running.problem is None else f" An edit is not in force there: {running.problem}"
            raise OtherPipeline(
                f"the running `up` (process {running.pid}{on_host}, with {its_file}) has another pipeline: {what}. Use its "
                f"file (--config), or restart `up` with these settings.{edit}"
            )


def has_other_stages(cur: Cursor, here: Pipeline) -> bool:
    """Whether a running `up` works with other recipes, stages or conditions than `here`."""
    return any(
        difference(here, running.pipeline) is not None or here.relations != running.pipeline.relations
        for running in running_pipelines(cur)
    )


def refuse_other_library(cur: Cursor, library: str) -> None:
    """Raise `OtherPipeline` if a running `up` of this host scans another library: its documents would count as gone."""
    for running in running_pipelines(cur):
        theirs = running.pipeline.settings.get(LIBRARY)
        if running.host == host_name() and theirs and theirs != library:
            raise OtherPipeline(
                f"the running `up` (process {running.pid}) reads the library {theirs}, and this command {library}: use one "
                "library for one home, or set OFFLOAD_HOME to another folder"
            )


def _has_died(host: str, boot: str, pid: int) -> bool:
    """Whether the process is known to be gone. Its worker's row lives on for seconds after a kill."""
    if host != host_name():
        return False
    if boot != boot_id():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # a process of another user
        return False
    return False
