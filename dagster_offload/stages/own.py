"""A stage of a person's own: from its `StageSpec` to the question that is sent and the record that is accepted. Pure."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any

from pydantic import BaseModel, ValidationError

from dagster_offload.errors import UnusableAnswer
from dagster_offload.slot.completion import RequestOptions
from dagster_offload.stage_spec.fields import Field
from dagster_offload.stage_spec.stage import StageSpec
from dagster_offload.stages.answers import quotes
from dagster_offload.stages.answers.answer_model import answer_model, in_words, json_schema, may_be_null, most_entries
from dagster_offload.stages.answers.doubts import DROPPED_FIELDS, VALUE_DROPPED, Doubt
from dagster_offload.stages.answers.parsing import StageAnswer, parse_record
from dagster_offload.stages.llm_stage import Checked, LLMStage
from dagster_offload.stages.prompts.long_documents import WholeReading
from dagster_offload.text.validation import faults_in_words

# Increase when the words around a person's prompt, or the reading of an answer, change: old answers are then outdated.
FORM_VERSION = 1

# Marks of a record that was combined from the answers to parts.
VALUE_MISSING = "value_missing"  # no part gives a required value
TOO_MANY_ENTRIES = "too_many_entries"  # a list was cut at its limit

DOUBTFUL = "doubtful"  # the key of a record that lists its marks

_NEVER_INVENT = "Answer null where the document does not state a value; never invent one."
_PART = "The document is one part of a longer one, which goes on before and after it."
_MERGE = (
    "The document holds the answers to one question about the consecutive parts of one longer document, in order. "
    "Answer the question for that longer document."
)


def own_stage(name: str, spec: StageSpec) -> LLMStage:
    """Return the stage that a person described."""
    # Made when the first answer arrives: recipes are computed at each tick of a sensor, and need no model.
    model, part_model = (cache(partial(_model, spec, is_part=is_part)) for is_part in (False, True))
    whole = _whole(spec) if spec.long_documents == "whole" else None
    return LLMStage(
        name=name,
        instruction=_instruction(spec),
        options=_options(spec),
        parse=lambda text: _validated(parse_record(text, model()), spec),
        parse_part=lambda text: parse_record(text, part_model()),
        prompt_version=FORM_VERSION,
        slots=spec.slots,
        whole=whole,
        check=_check(spec) if spec.quotes else None,
        canonical=tuple(field.name for field in spec.answer if field.is_canonical),
    )


def _model(spec: StageSpec, *, is_part: bool) -> Any:
    model = answer_model(spec.answer, is_part=is_part)
    return model if not spec.quotes else quotes.with_quotes(model)


def _validated(record: StageAnswer, spec: StageSpec) -> StageAnswer:
    """The record as the person's own pydantic model reads it. Raises `UnusableAnswer` if the model refuses it."""
    if spec.answer_model is None:
        return record
    values = record.model_dump(mode="json")
    names = {field.name for field in spec.answer}
    try:
        read = _read(spec.answer_model, {name: value for name, value in values.items() if name in names})
    except ValidationError as error:
        faults = faults_in_words(error.errors(include_url=False, include_input=False))
        raise UnusableAnswer("answer_does_not_fit", f"the answer's JSON does not fit the stage: {faults}") from None
    written = read.model_dump(mode="json", by_alias=True)
    validated = type(record).model_validate(values | {name: value for name, value in written.items() if name in names})
    validated.note_dropped(record.dropped, record.dropped_fields)
    return validated


def _read(model: type[BaseModel], values: dict[str, Any]) -> BaseModel:
    """The answer as a person's model reads it. Where a field with a default accepts no null, null gives it its default.

    The question allows null there, because the document may not state the value. Raises `ValidationError`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        nulls = [fault["loc"] for fault in error.errors(include_url=False) if fault["input"] is None]
        if not nulls:
            raise
        for *place, name in nulls:
            holder: Any = values
            with suppress(LookupError, TypeError):  # the place may name a type of a union
                for key in place:
                    holder = holder[key]
                del holder[name]
        try:
            return model.model_validate(values)
        except ValidationError as without_nulls:
            missing = {fault["loc"] for fault in without_nulls.errors(include_url=False) if fault["type"] == "missing"}
            # Of a null without a default, the first error has the words of the person's own validator.
            raise error if missing.intersection(nulls) else without_nulls from None


def _instruction(spec: StageSpec) -> str:
    form = (
        f"{in_words(spec.answer)[:-1]}, " + f'"{quotes.QUOTES}": an object}}' if spec.quotes else in_words(spec.answer)
    )
    lines = [spec.prompt.strip(), f"Answer with the JSON object {form}. {_NEVER_INVENT}"]
    if spec.quotes:
        lines.append(quotes.quotes_in_words(spec.answer))
    return "\n".join(lines)


def _options(spec: StageSpec) -> RequestOptions:
    schema = json_schema(spec.answer)
    if spec.quotes:
        schema["properties"][quotes.QUOTES] = quotes.quotes_schema(spec.answer)
        schema["required"].append(quotes.QUOTES)
    return RequestOptions(
        max_tokens=spec.max_tokens, temperature=spec.temperature, thinking=spec.thinking, response_schema=schema
    )


def _whole(spec: StageSpec) -> WholeReading:
    instruction = _instruction(spec)
    return WholeReading(
        part_instruction=f"{_PART} Answer for this part alone.\n{instruction}",
        merge_instruction=f"{_MERGE}\n{instruction}",
        note=lambda answer: json.dumps(_without_marks(answer), ensure_ascii=False),
        combine=None if spec.merge == "ask" else lambda answers: combined(spec.answer, answers),
    )


def _without_marks(answer: Mapping[str, Any]) -> dict[str, Any]:
    marks = (quotes.QUOTES, quotes.UNSUPPORTED, DOUBTFUL, DROPPED_FIELDS)
    return {name: value for name, value in answer.items() if name not in marks}


def combined(fields: Sequence[Field], answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Combine the answers to the parts of a document: lists are joined, other fields take the first value there is.

    Each value keeps its quote and its mark. A list is cut at its limit, and a required value may be in no part: the record
    is then doubtful.
    """
    record: dict[str, Any] = {}
    found: dict[str, Any] = {}
    unsupported: list[str] = []
    doubts: dict[str, None] = {}
    for field in fields:
        giving = [answer for answer in answers if answer.get(field.name) not in (None, [])]
        if field.type == "list":
            entries = [entry for answer in giving for entry in answer[field.name]]
            places = [place for answer in giving for place in answer.get(quotes.QUOTES, {}).get(field.name, ())]
            most = most_entries(field)
            if len(entries) > most:
                doubts[TOO_MANY_ENTRIES] = None
            record[field.name] = entries[:most]
            if places:
                found[field.name] = places[:most]
        else:
            giving = giving[:1]
            record[field.name] = giving[0][field.name] if giving else None
            if giving and (place := giving[0].get(quotes.QUOTES, {}).get(field.name)) is not None:
                found[field.name] = place
            if not giving and not may_be_null(field):
                doubts[VALUE_MISSING] = None
            if not giving and any(_was_dropped(field, answer) for answer in answers):
                doubts[VALUE_DROPPED] = None
        # A value that was dropped for its quote is in no part, and its mark says why.
        if any(field.name in answer.get(quotes.UNSUPPORTED, ()) for answer in giving or answers):
            unsupported.append(field.name)
    if any(quotes.QUOTES in answer for answer in answers):
        record |= {quotes.QUOTES: found, quotes.UNSUPPORTED: unsupported}
    return record | ({DOUBTFUL: sorted(doubts)} if doubts else {})


def _was_dropped(field: Field, answer: Mapping[str, Any]) -> bool:
    """Whether the answer to a part has no value of the field because it did not fit. Earlier releases did not store which."""
    return VALUE_DROPPED in answer.get(DOUBTFUL, ()) and field.name in answer.get(DROPPED_FIELDS, (field.name,))


def record_columns(spec: StageSpec) -> list[tuple[str, str]]:
    """The columns of a stage's records, by name, with their types: in files, in views, and for conditions."""
    fields = [(field.name, field.column_type) for field in spec.answer]
    marks = (quotes.UNSUPPORTED, DOUBTFUL) if spec.quotes else (DOUBTFUL,)
    return [*fields, *((mark, "json") for mark in marks)]


def in_declared_order(fields: Sequence[Field], record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its fields in the order of the stage, and its marks after them: the ledger does not keep an order."""
    found = {field.name: _in_declared_order(field, record[field.name]) for field in fields if field.name in record}
    marks = {name: value for name, value in record.items() if name not in found}
    if isinstance(marks.get(quotes.QUOTES), Mapping):
        places = marks[quotes.QUOTES]
        marks[quotes.QUOTES] = {name: places[name] for name in (*found, *places) if name in places}
    return found | marks


def _in_declared_order(field: Field, value: Any) -> Any:
    if field.type == "object" and isinstance(value, Mapping):
        return in_declared_order(field.fields, value)
    if field.entry is not None and isinstance(value, list):
        return [_in_declared_order(field.entry, each) for each in value]
    return value


def _check(spec: StageSpec) -> Any:
    def check(value: Mapping[str, Any], text: str, start: int) -> Checked:
        values = {name: entry for name, entry in value.items() if name != quotes.QUOTES}
        grounding = quotes.ground(values, value.get(quotes.QUOTES), spec.answer, text)
        problem = grounding.problem
        record = quotes.record_of(values, grounding, spec.answer, start=start, is_required=spec.quotes == "required")
        return Checked(record, () if problem is None else (Doubt("unsupported_values", problem),))

    return check
