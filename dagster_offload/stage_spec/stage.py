"""A stage of a person's own, as the pipeline file states it: `StageSpec`."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from dagster_offload.stage_spec.fields import Field as AnswerField
from dagster_offload.stage_spec.fields import FieldError, read_answer

# Names of stages, jobs, assets and words of commands that a stage of one's own cannot have.
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
        "served_model",
        "updated_at",
        "text",
    }
)
# Keys that this program adds to an answer or a record.
RESERVED_FIELDS = frozenset({"quotes", "unsupported", "doubtful", "parts", "parts_read"})
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

Scalar = str | int | float | bool


def _answer(written: Any) -> tuple[AnswerField, ...]:
    try:
        fields = read_answer(written)
    except FieldError as error:
        # The path leads a loader to the line of the file.
        raise PydanticCustomError("answer", "{message}", {"message": str(error), "path": error.path}) from None
    if reserved := sorted(RESERVED_FIELDS & {field.name for field in fields}):
        raise ValueError(f"{reserved[0]!r} is a name that records use themselves: choose another")
    return fields


def _values(written: Any) -> Any:
    return written if isinstance(written, (list, tuple)) else [written]


Values = Annotated[tuple[Scalar, ...], BeforeValidator(_values), Field(min_length=1)]


class StageSpec(BaseModel):
    """One question to the deep slot about each document, with the fields of its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(min_length=1, description="the question; the document stands before it")
    answer: Annotated[tuple[AnswerField, ...], BeforeValidator(_answer), WithJsonSchema({"type": "object"})] = Field(
        description="fields of the answer: {payee: string, amount: number, due: date?, items: [{what: string}]}"
    )
    description: str = Field("", description="one sentence for the asset's page")
    reads: str = Field("extract", description="what it reads: `extract` (the text), or a stage (its record)")
    when: Mapping[str, Mapping[str, Values]] = Field(
        default_factory=dict,
        description="ask only if these answers are so: {classify: {category: [invoice, reminder]}}",
    )
    quotes: bool | Literal["required"] = Field(
        False, description="true: each value with the words that state it, checked; required: drop values without them"
    )
    long_documents: Literal["whole", "beginning"] = Field(
        "whole", description="whole: ask about each part of a long document; beginning: read only its first part"
    )
    merge: Literal["first", "ask"] = Field(
        "first", description="of several parts: join lists and take the first value; or let the model merge the answers"
    )
    slots: Literal["deep", "any"] = Field("deep", description="any: `primary` may run it too")
    max_tokens: int = Field(1_500, ge=16, le=32_768, description="longest answer, in tokens")
    temperature: float = Field(0.0, ge=0, le=2, description="0 for the most likely answer")
    thinking: bool = Field(False, description="let the model think before it answers")

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
