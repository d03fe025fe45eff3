"""From an answer's text to a typed record: strip closed thinking, find the one JSON object, validate it."""

import re
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dagster_offload.completion import Answer
from dagster_offload.errors import UnusableAnswer
from dagster_offload.foreign_json import objects_in_prose, read_json

Record = TypeVar("Record", bound=BaseModel)

_CLOSED_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^```[a-zA-Z]*\n(.*)\n```$", re.DOTALL)


class StageAnswer(BaseModel):
    """Base of what a stage accepts: extra keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_strip_whitespace=True)


def usable_text(answer: str) -> str:
    """The answer without closed thinking. Raises `UnusableAnswer` where nothing is left that could be a result."""
    text = _CLOSED_THINKING.sub("", answer)
    if "<think>" in text:
        raise UnusableAnswer(
            "unclosed_thinking", "the answer ends inside its thinking: raise max_tokens or turn thinking off"
        )
    # Some templates open the thinking in the prompt, so that only its end is in the answer.
    text = text.rpartition("</think>")[2].strip()
    if isinstance(answer, Answer) and answer.finish_reason == "length":
        raise UnusableAnswer("cut_by_max_tokens", "the answer reached max_tokens before it ended")
    if not text:
        raise UnusableAnswer("empty_answer", "the answer is empty")
    return text


def parse_record(answer: str, model: type[Record]) -> Record:
    """Validate an answer against a stage's model. Raises `UnusableAnswer` naming what does not fit, never the text."""
    text = usable_text(answer)
    fenced = _FENCE.match(text)
    try:
        values = [read_json(fenced[1] if fenced else text)]
    except ValueError:
        values = list(objects_in_prose(text))
    problems = None
    for value in values:  # prose may hold other objects before the answer; the first that fits is it
        try:
            return model.model_validate(value)
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors()[:5])
            problems = problems or found
    if problems is None:
        raise UnusableAnswer("no_json", "the answer holds no JSON object")
    raise UnusableAnswer("answer_does_not_fit", f"the answer's JSON does not fit the stage: {problems}")
