"""The graph with a person's own stages, each after the stages it needs."""

from collections.abc import Mapping, Sequence
from typing import Any

from dagster_offload.errors import SettingsError
from dagster_offload.stage_spec.relations import mistakes
from dagster_offload.stage_spec.stage import StageSpec
from dagster_offload.stages.graph import BUILT_IN, StageGraph, StageNode


def with_own_stages(own: Mapping[str, StageSpec]) -> StageGraph:
    """Return the built-in stages, then the own ones in declared order, each after the stages it needs.

    Raises `SettingsError` for a mistake between them. The settings refuse such a pipeline file with line and column.
    """
    if not own:
        return BUILT_IN
    for path, message in mistakes(own):
        raise SettingsError(f"stages.{'.'.join(path)}: {message}")
    nodes = {name: StageNode(name, spec.reads, _condition(spec)) for name, spec in own.items()}
    ordered = list(BUILT_IN)
    while nodes:
        placed = {node.name for node in ordered}
        ready = next(node for node in nodes.values() if placed.issuperset(node.needs))
        ordered.append(nodes.pop(ready.name))
    return StageGraph(tuple(ordered))


def _condition(spec: StageSpec) -> dict[str, dict[str, Sequence[Any]]] | None:
    return {
        stage: {name: list(values) for name, values in fields.items()} for stage, fields in spec.when.items()
    } or None
