"""The built-in stages by name, as most tests use them."""

from dagster_offload.stages.graph import BUILT_IN

STAGE_NAMES = BUILT_IN.names
DRAIN_STAGES = BUILT_IN.drain_stages
