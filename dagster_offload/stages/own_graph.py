"""The graph with a person's own stages: their order, and the mistakes that only show when all stages are known."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagster_offload.errors import SettingsError
from dagster_offload.stage_spec.stage import StageSpec, name_problem
from dagster_offload.stages.classify import Classification
from dagster_offload.stages.graph import BUILT_IN, CLASSIFY, EXTRACT, SUMMARIZE, StageGraph, StageNode
from dagster_offload.stages.summarize import Summary

_BUILT_IN_FIELDS = {CLASSIFY: tuple(Classification.model_fields), SUMMARIZE: tuple(Summary.model_fields)}


def with_own_stages(own: Mapping[str, StageSpec]) -> StageGraph:
    """Return the built-in stages, then the own ones in declared order, each after the stages it needs.

    Raises `SettingsError` for a name that is taken, a stage or a field that does not exist, and a cycle.
    """
    for name, spec in own.items():
        _check(name, spec, own)
    nodes = {name: StageNode(name, spec.reads, _condition(spec)) for name, spec in own.items()}
    ordered = list(BUILT_IN)
    while nodes:
        placed = {node.name for node in ordered}
        ready = next((node for node in nodes.values() if placed.issuperset(node.needs)), None)
        if ready is None:
            raise SettingsError(f"stages: {' and '.join(sorted(nodes))} need each other: remove one `reads` or `when`")
        ordered.append(nodes.pop(ready.name))
    return StageGraph(tuple(ordered))


def _condition(spec: StageSpec) -> dict[str, dict[str, Sequence[Any]]] | None:
    return {
        stage: {name: list(values) for name, values in fields.items()} for stage, fields in spec.when.items()
    } or None


def _check(name: str, spec: StageSpec, own: Mapping[str, StageSpec]) -> None:
    problem = name_problem(name)
    if problem is not None:
        raise SettingsError(f"stages: {problem}")
    others = [stage for stage in (*_BUILT_IN_FIELDS, *own) if stage != name]
    if spec.reads != EXTRACT and spec.reads not in others:
        raise SettingsError(
            f"stages.{name}.reads: there is no stage {spec.reads!r}{_nearest(spec.reads, others)}: "
            f"use {EXTRACT} for the document's text, or one of {', '.join(others)}"
        )
    for stage, fields in spec.when.items():
        if stage not in others:
            raise SettingsError(
                f"stages.{name}.when: there is no stage {stage!r}{_nearest(stage, others)}: use one of {', '.join(others)}"
            )
        known = _BUILT_IN_FIELDS.get(stage) or tuple(field.name for field in own[stage].answer)
        for field in fields:
            if field not in known:
                raise SettingsError(
                    f"stages.{name}.when.{stage}: its answer has no field {field!r}{_nearest(field, known)}: "
                    f"use one of {', '.join(known)}"
                )


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
