"""The names Dagster sees: asset keys, jobs, steps, tags and code versions. The import reads no settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.utils import DISALLOWED_NAMES

from dagster_offload.stages.graph import StageGraph, asset_name

SCAN_JOB = "scan"
DRAIN_JOB = "drain"
EXTRACT_JOB = "extract"
SCAN_STEP = "scan_library"
DRAIN_STEP = "drain_backlog"
# The steps of the job `extract`. The second runs several times.
EXTRACT_BEGIN, EXTRACT_STEP, EXTRACT_END = "begin_extraction", "extract_texts", "end_extraction"
RESOURCE = "deep_slot"
LEDGER_IO = "ledger_io"  # reads the assets as inputs of other assets
STAGES_STEP = "document_stages"  # the step of every run that a person or a backfill launches on the assets

WAITING_EXECUTOR = "waiting_multiprocess"
CELERY_EXECUTOR = "celery"

REDO_TAG = "dagster_offload/redo"  # a person sets it on a run, to one of `REDO_VALUES`
RETRY = "failed"
REDO_VALUES = ("outdated", "all", RETRY)
# What the list of runs shows. Dagster hides tags that begin with `.dagster/`.
HOST_TAG = "host"
WHY_TAG = "why"
LAUNCHED_BY_TAG = "launched_by"
UP, TERMINAL, SENSOR = "up", "a terminal", "a sensor"
RAN_ON_TAG = ".dagster/offload_ran_on"  # host, process, its start and the host's boot
OLD_RAN_ON_TAG = "dagster_offload/ran_on"  # of runs before version 0.2

RESULT_TAG = "dagster_offload/result"
RECIPE_TAG = "dagster_offload/recipe"
OBSERVATION_TAG = "dagster_offload/observation"
TERMS_TAG = ".dagster/offload_terms"  # of a run of `extract`: what its steps must have in common
REPOSITORY_TAG = ".dagster/repository"  # the UI finds a job's runs by this tag


@dataclass(frozen=True)
class Names:
    """What the assets, jobs, sensors and resource of one library are called. `keys` are the asset keys, by stage.

    A code location with several libraries gives each a `prefix`, so that no two have the same name. `launched_by` is the tag
    of the runs that the sensors launch.
    """

    keys: Mapping[str, dg.AssetKey]
    prefix: str = ""
    launched_by: str = UP

    @property
    def scan_job(self) -> str:
        """The job that scans the library."""
        return self.of(SCAN_JOB)

    @property
    def extract_job(self) -> str:
        """The job that extracts on several hosts."""
        return self.of(EXTRACT_JOB)

    @property
    def drain_job(self) -> str:
        """The job that processes the backlog."""
        return self.of(DRAIN_JOB)

    @property
    def drain_sensor(self) -> str:
        """The sensor that checks the slots and launches drains."""
        return self.of("drain_sensor")

    def of(self, name: str) -> str:
        """The name of a job, sensor, step or resource, with the prefix."""
        return f"{self.prefix}_{name}" if self.prefix else name

    def step_of(self, job_name: str) -> str:
        """The key of the step to which the events of a job's runs belong. All runs but those of `extract` have one step."""
        steps = {self.scan_job: SCAN_STEP, self.drain_job: DRAIN_STEP, self.extract_job: EXTRACT_END}
        return self.of(steps.get(job_name, STAGES_STEP))


def names_of(graph: StageGraph, asset_key_prefix: Sequence[str] = (), prefix: str = "", launched_by: str = UP) -> Names:
    """The names of a library with these stages."""
    keys = {stage: dg.AssetKey(_path(asset_key_prefix, asset_name(stage))) for stage in graph.names}
    return Names(keys, prefix, launched_by)


def _path(prefix: Sequence[str], name: str) -> list[str]:
    """The path of an asset. No stage's name begins with `_`, so none has the one that Dagster accepts in place of its words."""
    return [*prefix, f"_{name}" if not prefix and name in DISALLOWED_NAMES else name]
