"""Mistakes between stages: a name that is taken, a stage or a field that does not exist, stages that need each other."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dagster_offload.stage_spec.fields import Field
from dagster_offload.stage_spec.stage import StageSpec, name_problem
from dagster_offload.text.lists import listed
from dagster_offload.text.suggestions import suggestion

OTHER = "other"  # the class that always exists
BUILT_IN_CLASSES = ("invoice", "letter", "contract", "report", "minutes", "manual", "article", "form", OTHER)
TEXT = "extract"  # the stage that reads the file: `reads: extract` is the document's text
# The fields of the built-in stages' answers, which conditions can name.
BUILT_IN_FIELDS = {
    "classify": ("category", "confidence", "language"),
    "summarize": ("summary", "title", "key_points", "language"),
}

# The values of a field as a condition writes them, by the field's type.
_VALUES: dict[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "is text: put quotes around it"),
    "date": ((str,), "is a date such as 2025-03-04"),
    "datetime": ((str,), "is a date and time such as 2025-03-04T14:30:00"),
    "number": ((int, float), "is a number, which has no quotes"),
    "integer": ((int, float), "is a whole number, which has no quotes"),
    "boolean": ((bool,), "is true or false"),
}

Mistake = tuple[tuple[str, ...], str]  # the path below `stages`, and what is wrong


def mistakes(own: Mapping[str, StageSpec], classes: Sequence[str] = ()) -> Iterator[Mistake]:
    """Yield the mistakes between these stages, each with its path and the nearest right word.

    `classes` are the document classes; empty = conditions on a class are not checked here.
    """
    for name, spec in own.items():
        problem = name_problem(name)
        if problem is not None:
            yield (name,), problem
        yield from _mistakes_of(name, spec, own, classes)
    if loop := needing_each_other(own):
        yield (loop[0],), f"{listed(loop)} need each other: remove one `reads` or `when`"


def _mistakes_of(name: str, spec: StageSpec, own: Mapping[str, StageSpec], classes: Sequence[str]) -> Iterator[Mistake]:
    others = [stage for stage in (*BUILT_IN_FIELDS, *own) if stage != name]
    if spec.reads == name:
        yield (name, "reads"), f"a stage cannot read itself: use {TEXT} for the document's text, or another stage"
    elif spec.reads != TEXT and spec.reads not in others:
        message = f"there is no stage {spec.reads!r}{suggestion(spec.reads, others)}"
        yield (name, "reads"), f"{message}: use {TEXT} for the document's text, or one of {', '.join(others)}"
    for stage, fields in spec.when.items():
        if stage == name:
            yield (name, "when", stage), "the condition of a stage cannot name the stage itself"
            continue
        if stage not in others:
            message = f"there is no stage {stage!r}{suggestion(stage, others)}"
            yield (name, "when", stage), f"{message}: use one of {', '.join(others)}"
            continue
        known = BUILT_IN_FIELDS.get(stage) or tuple(field.name for field in own[stage].answer)
        for field in fields:
            if field not in known:
                message = f"the answer of {stage} has no field {field!r}{suggestion(field, known)}"
                yield (name, "when", stage, field), f"{message}: use one of {', '.join(known)}"
                continue
            answered, values = _field(stage, field, own, classes), fields[field]
            wrong = [(value, reason) for value in values if (reason := _never(answered, value)) is not None]
            # Beside a right value, a wrong one does no harm. One that is not in an enum is probably misspelt.
            if answered.type == "enum" or len(wrong) == len(values):
                where = "" if stage in own or not answered.values else " (stages.classify.classes, OFFLOAD_CLASSES)"
                for value, reason in wrong:
                    yield (name, "when", stage, field), f"{field} is never {value!r}{reason}{where}"


def class_names(configured: Sequence[str]) -> tuple[str, ...]:
    """Return the classes without doubles, always including `other`."""
    return tuple(dict.fromkeys((*configured, OTHER)))


def _field(stage: str, field: str, own: Mapping[str, StageSpec], classes: Sequence[str]) -> Field:
    """The field of this name in the stage's answer. Classes are an enum."""
    if stage in own:
        return next(each for each in own[stage].answer if each.name == field)
    if (stage, field) == ("classify", "category") and classes:
        return Field(field, "enum", values=class_names(classes))
    return Field(field, "number" if field == "confidence" else "string")


def _never(field: Field, value: Any) -> str | None:
    """Why an answer never has this value, to append to the value; None if it may have it, or a list may hold it."""
    while field.entry is not None:
        field = field.entry
    if field.type == "enum":
        hint = f"{suggestion(str(value), field.values)}: its values are {', '.join(field.values)}"
        return None if value in field.values else hint
    kind, words = _VALUES.get(field.type, ((), "is no single value, so no condition can name it"))
    if isinstance(value, kind) and isinstance(value, bool) == (field.type == "boolean"):
        return None
    return f": it {words}"


def needing_each_other(own: Mapping[str, StageSpec]) -> list[str]:
    """The stages that can never start because they need each other; empty if there are none."""
    waiting = dict(own)
    while ready := [name for name, spec in waiting.items() if not {spec.reads, *spec.when} & (waiting.keys() - {name})]:
        for name in ready:
            del waiting[name]
    return sorted(waiting)
