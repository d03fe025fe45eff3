"""The form of every LLM stage: what it sends, and how it reads the answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from dagster_offload.slot.completion import RequestOptions
from dagster_offload.stage_spec.slots import AllowedSlots
from dagster_offload.stages.answers.doubts import Doubt
from dagster_offload.stages.prompts.long_documents import WholeReading


@dataclass(frozen=True)
class Checked:
    """An answer after its check against the document, and the doubts that the check found."""

    value: dict[str, Any]
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True)
class LLMStage:
    """One question about a document: its instruction, its request options, and the parser of its answer.

    `check(value, text, start)` compares an accepted answer with the text it was given, which starts at the document's
    character `start`.
    """

    name: str
    instruction: str
    options: RequestOptions
    parse: Callable[[str], BaseModel]  # raises UnusableAnswer
    prompt_version: int
    slots: AllowedSlots = "deep"  # which may answer it
    # How the stage reads a long document to its end. None: it reads only the beginning.
    whole: WholeReading | None = None
    parse_part: Callable[[str], BaseModel] | None = None  # of the answer to a part; None = `parse`
    check: Callable[[Mapping[str, Any], str, int], Checked] | None = None
    canonical: tuple[str, ...] = ()  # fields for which the model is offered the values of other documents
    # The doubts about a valid answer, given the text it is about. Not part of the recipe: they change no answer.
    doubts: Callable[[Mapping[str, Any], str], tuple[Doubt, ...]] = lambda _answer, _text: ()
