"""The names Dagster sees: asset keys, jobs, steps, tags and code versions. The import reads no settings."""

from collections.abc import Sequence

import dagster as dg

from dagster_offload.stages.graph import StageGraph, asset_name

SCAN_JOB = "scan"
DRAIN_JOB = "drain"
SCAN_STEP = "scan_library"
DRAIN_STEP = "drain_backlog"
STAGES_STEP = "document_stages"  # the step of every run that a person or a backfill launches on the assets

WAITING_EXECUTOR = "waiting_multiprocess"

LOCATION = "dagster-offload"  # the name of the code location, as in workspace.yaml

# What the list of runs shows. Dagster hides tags that begin with `.dagster/`.
HOST_TAG = "host"
WHY_TAG = "why"
LAUNCHED_BY_TAG = "launched_by"
UP, TERMINAL = "up", "a terminal"
RAN_ON_TAG = ".dagster/offload_ran_on"  # host, process, its start and the host's boot
OLD_RAN_ON_TAG = "dagster_offload/ran_on"  # of runs before version 0.2

RESULT_TAG = "dagster_offload/result"
RECIPE_TAG = "dagster_offload/recipe"
OBSERVATION_TAG = "dagster_offload/observation"
REPOSITORY_TAG = ".dagster/repository"  # the UI finds a job's runs by this tag


def asset_keys(prefix: Sequence[str], graph: StageGraph) -> dict[str, dg.AssetKey]:
    """The asset key of each stage, with this prefix."""
    return {stage: dg.AssetKey([*prefix, asset_name(stage)]) for stage in graph.names}


def step_of(job_name: str) -> str:
    """The step key of a job's runs. Each run has exactly one step."""
    return {SCAN_JOB: SCAN_STEP, DRAIN_JOB: DRAIN_STEP}.get(job_name, STAGES_STEP)
