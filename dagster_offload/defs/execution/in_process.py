"""Run a job in the calling process, without a daemon. The CLI's `scan` and `drain` do this."""

import os
from typing import Any

import dagster as dg

from dagster_offload.defs.location import LOCATION
from dagster_offload.defs.names import LAUNCHED_BY_TAG, REPOSITORY_TAG, TERMINAL
from dagster_offload.defs.runs import run_tags
from dagster_offload.errors import OffloadError


def run_in_process(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job_name: str,
    *,
    log_level: str = "ERROR",
    launched_by: str = TERMINAL,
    **config: object,
) -> Any:
    """Run the job `scan` or `drain` in this process. The UI shows its run and events like any other.

    Returns the summary of its step: a `ScanSummary` or a `DrainSummary`. Raises the `OffloadError` that failed the step, or
    `dg.Failure` for any other failure. stderr shows Dagster's log lines from `log_level` upwards; the run keeps all of them.
    """
    job = definitions.resolve_job_def(job_name)
    (step,) = (node.name for node in job.nodes)
    op_config = {name: value for name, value in config.items() if value is not None}
    try:
        result = job.execute_in_process(
            instance=instance,
            run_config={
                "ops": {step: {"config": op_config}},
                "loggers": {"console": {"config": {"log_level": log_level}}},
            },
            tags={
                **run_tags(os.getpid()),
                LAUNCHED_BY_TAG: launched_by,
                REPOSITORY_TAG: f"__repository__@{LOCATION}",
            },
        )
    except dg.Failure as failure:
        if isinstance(failure.__cause__, OffloadError):
            raise failure.__cause__ from failure
        raise
    return result.output_for_node(step)
