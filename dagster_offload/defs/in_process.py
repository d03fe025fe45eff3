"""Run the very same jobs in the calling process, with no daemon: what the CLI's `scan` and `drain` do."""

import os
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagster_offload.defs.names import LOCATION, REPOSITORY_TAG
from dagster_offload.defs.runs import run_tags
from dagster_offload.errors import OffloadError


@dataclass(frozen=True)
class JobEnd:
    """A finished run and its step's summary (documents by outcome)."""

    run_id: str
    summary: dict[str, Any]


def run_in_process(
    definitions: dg.Definitions, instance: dg.DagsterInstance, job_name: str, *, log_level: str = "ERROR", **config: Any
) -> JobEnd:
    """Run job `scan` or `drain` here; its run and events stand in the UI like any other.

    Raises the `OffloadError` that failed it (its words are meant for people), and `dg.Failure` for anything else the
    step refused. Dagster's own log lines below `log_level` stay off stderr; the run keeps them all.
    """
    job = definitions.resolve_job_def(job_name)
    (step,) = (node.name for node in job.nodes)
    given = {name: value for name, value in config.items() if value is not None}
    try:
        result = job.execute_in_process(
            instance=instance,
            run_config={
                "ops": {step: {"config": given}},
                "loggers": {"console": {"config": {"log_level": log_level}}},
            },
            tags={**run_tags(os.getpid()), REPOSITORY_TAG: f"__repository__@{LOCATION}"},
        )
    except dg.Failure as failure:
        if isinstance(failure.__cause__, OffloadError):
            raise failure.__cause__ from failure
        raise
    summary = result.output_for_node(step)
    return JobEnd(run_id=result.run_id, summary=summary)
