"""The question of a stage, and the repair question after an unusable answer.

A repair question follows the document, in the same position as the first question, so that the server's prompt cache
serves it. It names the fault and never quotes the document.
"""

from dataclasses import dataclass, replace
from typing import Any

from dagster_offload.errors import UnusableAnswer
from dagster_offload.slot.completion import Answer, RequestOptions

# Faults that one repair question may fix: there was an answer, and its fault can be described.
_REPAIRABLE = frozenset({"answer_does_not_fit", "no_json", "unknown_class", "cut_by_max_tokens", "blank_answer"})
# With a response schema also an empty answer, because a schema keeps some servers from answering.
_REPAIRABLE_WITH_SCHEMA = _REPAIRABLE | {"empty_answer"}


@dataclass(frozen=True)
class Question:
    """An instruction and its request options. `remark` is set on a repair question and describes the first answer."""

    instruction: str
    options: RequestOptions
    remark: str | None = None
    fallback: dict[str, Any] | None = None  # the record to keep if the answer to a second question is not usable

    @property
    def prompt(self) -> str:
        """The text of the user message: the instruction, and the remark if there is one."""
        return self.instruction if self.remark is None else f"{self.instruction}\n\n{self.remark}"

    def once_more(self, problem: str, fallback: dict[str, Any]) -> "Question":
        """Return the question again, with what is wrong with the answer, which is good enough to keep as `fallback`."""
        remark = f"Check your last answer: {problem}. Answer again."
        return replace(self, remark=remark, fallback=fallback)

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
