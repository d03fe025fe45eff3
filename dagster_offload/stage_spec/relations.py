"""Mistakes between stages: a name that is taken, a stage or a field that does not exist, stages that need each other."""

import difflib
from collections.abc import Iterable, Iterator, Mapping

from dagster_offload.stage_spec.stage import StageSpec, name_problem

TEXT = "extract"  # the stage that reads the file: `reads: extract` is the document's text
# The fields of the built-in stages' answers, which conditions can name.
BUILT_IN_FIELDS = {
    "classify": ("category", "confidence", "language"),
    "summarize": ("summary", "title", "key_points", "language"),
}

Mistake = tuple[tuple[str, ...], str]  # the path below `stages`, and what is wrong


def mistakes(own: Mapping[str, StageSpec]) -> Iterator[Mistake]:
    """Yield the mistakes between these stages, each with its path and the nearest right word."""
    for name, spec in own.items():
        problem = name_problem(name)
        if problem is not None:
            yield (name,), problem
        yield from _mistakes_of(name, spec, own)
    if loop := needing_each_other(own):
        yield (loop[0],), f"{' and '.join(loop)} need each other: remove one `reads` or `when`"


def _mistakes_of(name: str, spec: StageSpec, own: Mapping[str, StageSpec]) -> Iterator[Mistake]:
    others = [stage for stage in (*BUILT_IN_FIELDS, *own) if stage != name]
    if spec.reads != TEXT and spec.reads not in others:
        message = f"there is no stage {spec.reads!r}{_nearest(spec.reads, others)}"
        yield (name, "reads"), f"{message}: use {TEXT} for the document's text, or one of {', '.join(others)}"
    for stage, fields in spec.when.items():
        if stage not in others:
            message = f"there is no stage {stage!r}{_nearest(stage, others)}"
            yield (name, "when", stage), f"{message}: use one of {', '.join(others)}"
            continue
        known = BUILT_IN_FIELDS.get(stage) or tuple(field.name for field in own[stage].answer)
        for field in fields:
            if field not in known:
                message = f"the answer of {stage} has no field {field!r}{_nearest(field, known)}"
                yield (name, "when", stage, field), f"{message}: use one of {', '.join(known)}"


def needing_each_other(own: Mapping[str, StageSpec]) -> list[str]:
    """The stages that can never start because they need each other; empty if there are none."""
    waiting = dict(own)
    while ready := [name for name, spec in waiting.items() if not {spec.reads, *spec.when} & waiting.keys()]:
        for name in ready:
            del waiting[name]
    return sorted(waiting)


def _nearest(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
