"""The names Dagster knows us by: asset keys, jobs, steps, tags, code versions. Importing this reads no settings."""

from collections.abc import Sequence

import dagster as dg

from dagster_offload.stages import classify as classify_stage
from dagster_offload.stages import summarize as summarize_stage
from dagster_offload.stages.catalog import EXTRACT_VERSION
from dagster_offload.stages.graph import ASSET_KEYS, CLASSIFY, EXTRACT, STAGE_NAMES, SUMMARIZE

SCAN_JOB = "scan"
DRAIN_JOB = "drain"
SCAN_STEP = "scan_library"
DRAIN_STEP = "drain_backlog"
STAGES_STEP = "document_stages"  # of every run a person or a backfill launches on the assets

WAITING_EXECUTOR = "waiting_multiprocess"

LOCATION = "dagster-offload"  # the code location, as in workspace.yaml

RAN_ON_TAG = "dagster_offload/ran_on"  # host, process, its start and the host's boot, in one tag: lists show them all
RESULT_TAG = "dagster_offload/result"
RECIPE_TAG = "dagster_offload/recipe"
REPOSITORY_TAG = ".dagster/repository"  # what a job's own page in the UI lists its runs by

# From the stage alone, so that UI and ledger agree on what a new prompt makes outdated.
CODE_VERSIONS = {
    EXTRACT: f"extract-{EXTRACT_VERSION}",
    CLASSIFY: f"classify-{classify_stage.PROMPT_VERSION}",
    SUMMARIZE: f"summarize-{summarize_stage.PROMPT_VERSION}",
}


def asset_keys(prefix: Sequence[str]) -> dict[str, dg.AssetKey]:
    """The asset each stage produces."""
    return {stage: dg.AssetKey([*prefix, ASSET_KEYS[stage]]) for stage in STAGE_NAMES}


def step_of(job_name: str) -> str:
    """Every run of ours has one step."""
    return {SCAN_JOB: SCAN_STEP, DRAIN_JOB: DRAIN_STEP}.get(job_name, STAGES_STEP)
