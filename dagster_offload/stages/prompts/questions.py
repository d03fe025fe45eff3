"""The question of a stage, and the repair question after an unusable answer.

A repair question follows the document, in the same position as the first question, so that the server's prompt cache
serves it. It names the fault and never quotes the document.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dagster_offload.errors import UnusableAnswer
from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.stages.answers.doubts import Doubt

# Faults that one repair question may fix: there was an answer, and its fault can be described.
_REPAIRABLE = frozenset({"answer_does_not_fit", "no_json", "unknown_class", "cut_by_max_tokens", "blank_answer"})
# With a response schema also an empty answer, because a schema keeps some servers from answering.
_REPAIRABLE_WITH_SCHEMA = _REPAIRABLE | {"empty_answer"}


@dataclass(frozen=True)
class Question:
    """An instruction and its request options. `remark` is set on a repair question and describes the first answer.

    `doubtful` is that answer if it was valid and doubtful: it is recorded if no better one comes.
    """

    instruction: str
    options: RequestOptions
    remark: str | None = None
    doubtful: Mapping[str, Any] | None = None

    @property
    def prompt(self) -> str:
        """The text of the user message: the instruction, and the remark if there is one."""
        return self.instruction if self.remark is None else f"{self.instruction}\n\n{self.remark}"

    def follow_up(self, fault: UnusableAnswer, answer: str) -> "Question | None":
        """Return the question to send after the unusable `answer`; None if another one would not help.

        After unwanted thinking the same question is sent again in the slot's next dialect; this is not a repair. In all
        other cases there is one repair question.
        """
        if isinstance(answer, Answer) and answer.is_worth_asking_otherwise:
            return self
        repairable = _REPAIRABLE if self.options.response_schema is None else _REPAIRABLE_WITH_SCHEMA
        if self.remark is not None or fault.code not in repairable:
            return None
        if fault.code in {"blank_answer", "empty_answer"}:
            # A grammar makes some servers write endless white space or nothing, so only the prompt asks for JSON now.
            options = replace(self.options, response_schema=None)
            return replace(
                self, options=options, remark="Your last answer was blank. Answer with the JSON object at once."
            )
        if fault.code == "cut_by_max_tokens":
            remark = "Your last answer did not end within its token limit. Answer again, much shorter, and end the JSON object."
            return replace(self, remark=remark)
        return replace(self, remark=f"Your last answer was not accepted ({fault.message}). Answer again.")

    def after_doubts(self, doubts: Sequence[Doubt], answer: Mapping[str, Any]) -> "Question | None":
        """Return the question to send after a valid answer with doubts; None after a repair question."""
        if self.remark is not None:
            return None
        remark = f"Your last answer was not accepted: {' and '.join(doubt.remark for doubt in doubts)}. Answer again."
        return replace(self, remark=remark, doubtful=marked(answer, doubts))


def marked(answer: Mapping[str, Any], doubts: Sequence[Doubt]) -> dict[str, Any]:
    """The answer with the marks of its doubts, if there are any."""
    return {**answer, "doubtful": [doubt.mark for doubt in doubts]} if doubts else dict(answer)
