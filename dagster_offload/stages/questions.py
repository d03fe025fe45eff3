"""What is asked of a document, and what is asked once more when the answer is no record.

A second question stands where the first one stood, after the document, so that the server's prompt cache serves it. It
says what was wrong, never what the document says.
"""

from dataclasses import dataclass, replace

from dagster_offload.errors import UnusableAnswer
from dagster_offload.slot.completion import Answer, RequestOptions

# Faults that one more question may mend: there was an answer, and something is to be said about it.
_REPAIRABLE = frozenset({"answer_does_not_fit", "no_json", "unknown_class", "cut_by_max_tokens", "blank_answer"})
# And where the server was asked for the answer's shape, which keeps some from answering at all.
_REPAIRABLE_WITH_SCHEMA = _REPAIRABLE | {"empty_answer"}


@dataclass(frozen=True)
class Question:
    """An instruction and its bounds. `remark` is what a second question says about the answer to the first."""

    instruction: str
    options: RequestOptions
    remark: str | None = None

    @property
    def prompt(self) -> str:
        return self.instruction if self.remark is None else f"{self.instruction}\n\n{self.remark}"

    def asked_again(self, fault: UnusableAnswer, answer: str) -> "Question | None":
        """The question to ask after `answer` came to nothing; None where another one would not help.

        An answer spoilt by thinking that was not wanted is no answer: the same question goes out in the slot's next
        dialect. Otherwise there is one repair question.
        """
        if isinstance(answer, Answer) and answer.is_worth_asking_otherwise:
            return self
        repairable = _REPAIRABLE if self.options.response_schema is None else _REPAIRABLE_WITH_SCHEMA
        if self.remark is not None or fault.code not in repairable:
            return None
        if fault.code in {"blank_answer", "empty_answer"}:
            # A grammar makes some servers write blanks without end, or nothing: this time the prompt alone asks for JSON.
            options = replace(self.options, response_schema=None)
            return replace(
                self, options=options, remark="Your last answer was blank. Answer with the JSON object at once."
            )
        if fault.code == "cut_by_max_tokens":
            remark = "Your last answer did not end within its token limit. Answer again, much shorter, and end the JSON object."
            return replace(self, remark=remark)
        return replace(self, remark=f"Your last answer was not accepted ({fault.message}). Answer again.")
