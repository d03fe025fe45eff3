"""A stage of a person's own, as the pipeline file states it: `StageSpec`."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from dagster_offload.stage_spec.fields import Field as AnswerField
from dagster_offload.stage_spec.fields import FieldError, read_answer
from dagster_offload.stage_spec.json_schema import fields_of_schema
from dagster_offload.stage_spec.python_model import import_model
from dagster_offload.stage_spec.slots import NamedSlots
from dagster_offload.text.normal_form import in_nfc
from dagster_offload.text.validation import several_faults

# Names of stages, jobs, assets and words of commands that a user's own stage cannot have.
RESERVED_NAMES = frozenset(
    {
        "extract",
        "classify",
        "summarize",
        "all",
        "scan",
        "drain",
        "extracted_text",
        "classification",
        "summary",
        "records",
        "backlog",
        "deep_slot",
        # Keys of a record: it holds the record of an own stage beside them, under the stage's name.
        "document",
        "path",
        "state",
        "reason",
        "outcome",
        "category",
        "confidence",
        "language",
        "title",
        "key_points",
        "doubtful",
        "served_model",
        "updated_at",
        "corrected",
        "text",
    }
)
# Keys that this program adds to an answer or a record, and its own columns of the view `record_STAGE`.
RESERVED_FIELDS = frozenset(
    {
        "quotes",
        "unsupported",
        "doubtful",
        "value_dropped_of",
        "parts",
        "parts_read",
        "document",
        "model",
        "at",
        "outcome",
        "corrected",
    }
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

Scalar = str | int | float | bool


def _answer(written: Any) -> tuple[AnswerField, ...]:
    is_read = isinstance(written, tuple) and all(isinstance(field, AnswerField) for field in written)
    try:
        fields = written if is_read else read_answer(written)
    except FieldError as error:
        # The paths lead a loader to the lines of the file.
        raise several_faults((each.path, str(each)) for each in error.all) from None
    if reserved := sorted(RESERVED_FIELDS & {field.name for field in fields}):
        raise several_faults(
            ((name,), f"{name!r} is a name that records use themselves: choose another, such as {f'the_{name}'!r}")
            for name in reserved
        )
    return fields


def _values(written: Any) -> Any:
    return written if isinstance(written, (list, tuple)) else [written]


def _python_model(written: Any) -> Any:
    return import_model(written) if isinstance(written, str) else written


PythonModel = Annotated[type[BaseModel], BeforeValidator(_python_model), WithJsonSchema({"type": "string"})]
Values = Annotated[tuple[Scalar, ...], BeforeValidator(_values), Field(min_length=1)]


_FORMS = {"answer": "answer", "answer_schema": "schema", "answer_model": "model"}


def _in_one_form(schema: dict[str, Any]) -> None:
    """Let the JSON Schema accept each of the three forms of an answer's fields."""
    schema["required"].remove("answer")
    schema["anyOf"] = [{"required": [key]} for key in _FORMS.values()]


def _fields_of(schema: Any, key: str, *, is_checked_elsewhere: bool = False) -> tuple[AnswerField, ...]:
    if not isinstance(schema, Mapping):
        raise PydanticCustomError("schema", "must be the path of a JSON Schema, or the schema itself", {"path": (key,)})
    try:
        return fields_of_schema(schema, is_checked_elsewhere=is_checked_elsewhere)
    except FieldError as error:
        place = ".".join(error.path)
        message = f"{place}: {error}" if place else str(error)
        raise PydanticCustomError("schema", "{message}", {"message": message, "path": (key,)}) from None


class StageSpec(BaseModel):
    """One question to the deep slot about each document, with the fields of its answer.

    The fields are given in one of three forms: `answer`, a JSON `schema`, or a pydantic `model`. In Python `answer` may be
    a pydantic model, too. A model also validates every answer itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, json_schema_extra=_in_one_form)

    prompt: str = Field(min_length=1, description="the question; the document stands before it")
    answer: Annotated[tuple[AnswerField, ...], BeforeValidator(_answer), WithJsonSchema({"type": "object"})] = Field(
        description="fields of the answer: {payee: string, amount: number, due: date?, items: [{what: string}]}"
    )
    answer_schema: Annotated[Mapping[str, Any] | None, WithJsonSchema({"type": ["string", "object", "null"]})] = Field(
        default=None,
        alias="schema",
        description="instead of `answer`: a file with a JSON Schema (relative to this file)",
    )
    answer_model: PythonModel | None = Field(
        default=None,
        alias="model",
        description="instead of `answer`: a pydantic model, as module:Class, of an installed package",
    )
    description: str = Field(default="", description="one sentence for the asset's page")
    reads: str = Field(default="extract", description="what it reads: `extract` (the text), or a stage (its record)")
    when: Annotated[Mapping[str, Mapping[str, Values]], BeforeValidator(in_nfc)] = Field(
        default_factory=dict,
        description="ask only if these answers are so: {classify: {category: [invoice, contract]}}",
    )
    quotes: bool | Literal["required"] = Field(
        default=False,
        description="true: each value with the words that state it, checked; required: drop values without them",
    )
    long_documents: Literal["whole", "beginning"] = Field(
        default="whole",
        description="whole: ask about each part of a long document; beginning: read only its first part",
    )
    merge: Literal["first", "ask"] = Field(
        default="first",
        description="of several parts: join lists and take the first value; or let the model merge the answers",
    )
    slots: NamedSlots = Field(
        default="deep", description="the slots that may answer it: `deep`, `any`, or a list: [deep, studio]"
    )
    max_tokens: int = Field(default=1_500, ge=16, le=32_768, description="longest answer, in tokens")
    temperature: float = Field(default=0.0, ge=0, le=2, description="0 for the most likely answer")
    thinking: bool = Field(default=False, description="let the model think before it answers")

    @model_validator(mode="before")
    @classmethod
    def _with_fields(cls, written: Any) -> Any:
        """Read the fields from whichever form they are given in."""
        if written is None:
            raise ValueError("is empty: write the prompt and the answer below it, or remove the stage")
        if not isinstance(written, Mapping):
            return written
        given = {
            form: written[key]
            for key, form in (*_FORMS.items(), *((form, form) for form in _FORMS.values()))
            if written.get(key) is not None
        }
        if isinstance(given.get("answer"), type):
            given = {"model": given["answer"]}
        if len(given) > 1:
            raise ValueError(f"{' and '.join(sorted(given))} both give the fields of the answer: keep one")
        others = {key: value for key, value in written.items() if key not in (*_FORMS, *_FORMS.values())}
        if "schema" in given:
            return {**others, "answer": _fields_of(given["schema"], "schema"), "schema": given["schema"]}
        if "model" in given:
            model = _python_model(given["model"])
            if not (isinstance(model, type) and issubclass(model, BaseModel)):
                raise PydanticCustomError("model", "must be a pydantic model, as module:Class", {"path": ("model",)})
            fields = _fields_of(model.model_json_schema(), "model", is_checked_elsewhere=True)
            return {**others, "answer": fields, "model": model}
        return written

    @model_validator(mode="after")
    def _names_its_conditions(self) -> "StageSpec":
        for stage, fields in self.when.items():
            if not fields:
                raise ValueError(f"when: {stage} needs a field and its values: {{{stage}: {{category: [invoice]}}}}")
        return self

    @model_validator(mode="after")
    def _checks_its_quotes(self) -> "StageSpec":
        if self.quotes and self.merge == "ask":
            raise ValueError("quotes cannot be checked in an answer that the model merges: use `merge: first`")
        return self


def name_problem(name: str) -> str | None:
    """Why a stage cannot have this name; None if it can."""
    if name in RESERVED_NAMES:
        return f"{name!r} is a name that this program uses itself: choose another"
    if not _NAME.fullmatch(name):
        return (
            f"{name!r} is not a stage's name: use at most 40 lower-case letters, digits and _, and begin with a letter"
        )
    return None
