"""The dialects in which a server is told two things: answer with JSON of this shape, and do not think first.

Each wish has its ways, tried from the first on. A way that the server refuses or ignores is passed over from then on;
where none is left the wish is not sent: the instruction alone asks for JSON, and an answer gets room to think. Nothing
here knows makes or models, only what the server at a slot did with what it was sent. No I/O.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from dagster_offload.lenient_json import read_json
from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.slot.thinking import split_thinking


class Feature(StrEnum):
    JSON = "response_format"
    NO_THINKING = "thinking_off"


JSON_SCHEMA = "json_schema"  # OpenAI, llama.cpp, vLLM, LM Studio, Ollama
OBJECT_WITH_SCHEMA = "json_object with schema"  # llama.cpp, some routers
OBJECT = "json_object"  # DeepSeek, older servers

TEMPLATE = "chat_template_kwargs"  # llama.cpp, vLLM, SGLang, mlx: a switch of the model's chat template
EFFORT_NONE = "reasoning_effort none"  # llama.cpp, Ollama, OpenAI
EFFORT_MINIMAL = "reasoning_effort minimal"  # OpenAI's models that know no `none`
NO_THINK = "/no_think"  # Qwen3's template reads it out of the message, whatever stands between

VARIANTS = {
    Feature.JSON: (JSON_SCHEMA, OBJECT_WITH_SCHEMA, OBJECT),
    Feature.NO_THINKING: (TEMPLATE, EFFORT_NONE, EFFORT_MINIMAL, NO_THINK),
}
FIRST_VARIANTS: Mapping[Feature, str | None] = {feature: variants[0] for feature, variants in VARIANTS.items()}

# A refusal names the part of the request that it is about. llama.cpp's 500 for an answer outside its grammar speaks of a
# "peg-native format".
_REFUSALS = (
    (
        "response_format",
        Feature.JSON,
        re.compile(
            r"response[_ ]format|json[_ ]schema|json[_ ]object|grammar|guided|structured|peg-native|\bschema\b",
            re.IGNORECASE,
        ),
    ),
    ("chat_template_kwargs", Feature.NO_THINKING, re.compile(r"chat[_ ]template|enable_thinking", re.IGNORECASE)),
    ("reasoning_effort", Feature.NO_THINKING, re.compile(r"reasoning|\bthink", re.IGNORECASE)),
)
SERVER_ERROR = 500
_REFUSAL_STATUS_CODES = frozenset({400, 422, SERVER_ERROR, 501})

# What may be one answer's own (a 500, blanks without end, a model that thinks now and then) is the server's habit once it
# was seen three times running.
DOUBTS_TO_BELIEVE = 3

# Grammars allow blanks between any two parts of a JSON text, and some models then write nothing else (jundot/omlx #2990).
BLANKS_WITHOUT_END = re.compile(r"^\s+$|(?:\s|\\[nrt]){200}")


class Finding(StrEnum):
    """What a server did with a way."""

    OBEYED = "obeyed"
    IGNORED = "ignored"
    REFUSED = "refused"


Findings = Mapping[str, Mapping[str, str]]  # by wish, by way: as the ledger keeps them


class Dialects:
    """What one slot's server was found to do with each way of each wish."""

    def __init__(self, findings: Findings | None = None) -> None:
        self._findings: dict[tuple[Feature, str], Finding] = {}
        self._doubts: dict[tuple[Feature, str], int] = {}
        if findings is None:
            return
        for feature, variants in VARIANTS.items():
            for variant in variants:
                found = findings.get(feature, {}).get(variant)
                if found in set(Finding):
                    self._findings[feature, variant] = Finding(found)

    def copy(self) -> "Dialects":
        """The same findings, and no doubts yet."""
        made = Dialects()
        made._findings = dict(self._findings)
        return made

    @property
    def findings(self) -> Findings:
        found: dict[str, dict[str, str]] = {}
        for (feature, variant), finding in self._findings.items():
            found.setdefault(str(feature), {})[variant] = str(finding)
        return found

    def finding(self, feature: Feature, variant: str) -> Finding | None:
        return self._findings.get((feature, variant))

    def variant(self, feature: Feature) -> str | None:
        """The way to use now; None where the server knows none of them."""
        usable = (variant for variant in VARIANTS[feature] if self.finding(feature, variant) in {None, Finding.OBEYED})
        return next(usable, None)

    @property
    def variants(self) -> dict[Feature, str | None]:
        return {feature: self.variant(feature) for feature in Feature}

    def note(self, feature: Feature, variant: str, finding: Finding) -> None:
        self._findings[feature, variant] = finding
        self._doubts.pop((feature, variant), None)

    def doubt(self, feature: Feature, variant: str, finding: Finding) -> None:
        """Note it once it was seen three times running."""
        self._doubts[feature, variant] = self._doubts.get((feature, variant), 0) + 1
        if self._doubts[feature, variant] >= DOUBTS_TO_BELIEVE:
            self.note(feature, variant, finding)

    def note_refusal(self, feature: Feature, variant: str, status_code: int) -> None:
        """A 4xx or 501 spoke about the request, a 500 perhaps about one answer."""
        if status_code == SERVER_ERROR:
            self.doubt(feature, variant, Finding.REFUSED)
        else:
            self.note(feature, variant, Finding.REFUSED)

    def learn(self, variants: Mapping[Feature, str | None], options: RequestOptions, answer: Answer) -> None:
        """Note what an answer to a request in `ways` shows, and whether it is worth asking otherwise."""
        json_variant, quiet_variant = variants[Feature.JSON], variants[Feature.NO_THINKING]
        if options.response_schema is not None and json_variant is not None:
            if is_blank_without_end(answer):
                self.doubt(Feature.JSON, json_variant, Finding.IGNORED)
            elif (is_heard := _is_json_honoured(answer)) is not None:
                self.note(Feature.JSON, json_variant, Finding.OBEYED if is_heard else Finding.IGNORED)
        if options.thinking is False and quiet_variant is not None:
            if not answer.thinking_tokens and answer.strip():
                self.note(Feature.NO_THINKING, quiet_variant, Finding.OBEYED)
            elif answer.thinking_tokens and self.finding(Feature.NO_THINKING, quiet_variant) is Finding.OBEYED:
                self.doubt(Feature.NO_THINKING, quiet_variant, Finding.IGNORED)
            elif answer.thinking_tokens:
                self.note(Feature.NO_THINKING, quiet_variant, Finding.IGNORED)
            has_other_variant = self.variant(Feature.NO_THINKING) != quiet_variant
            answer.is_worth_asking_otherwise = answer.thinking_tokens > 0 and has_other_variant


def ask_for_json(body: dict[str, Any], variant: str | None, schema: dict[str, Any]) -> None:
    """Put the wish for an answer that fits `schema` into a request."""
    if variant == JSON_SCHEMA:
        named = {"name": str(schema.get("title", "answer")), "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    elif variant == OBJECT_WITH_SCHEMA:
        body["response_format"] = {"type": "json_object", "schema": schema}
    elif variant == OBJECT:
        body["response_format"] = {"type": "json_object"}


def ask_about_thinking(body: dict[str, Any], variant: str | None, *, wanted: bool) -> None:
    """Put the wish for an answer with or without thinking into a request; the last message is the user's."""
    if variant == TEMPLATE:
        body["chat_template_kwargs"] = {"enable_thinking": wanted}
    elif variant in {EFFORT_NONE, EFFORT_MINIMAL} and not wanted:
        body["reasoning_effort"] = variant.rpartition(" ")[2]
    elif variant == NO_THINK and not wanted:
        # At the very end, where it costs no cached prompt.
        body["messages"][-1]["content"] += f"\n\n{NO_THINK}"


def refused_feature(status_code: int, text: str, body: Mapping[str, Any]) -> Feature | None:
    """The wish in `body` that this refusal seems to be about, or None."""
    if status_code not in _REFUSAL_STATUS_CODES:
        return None
    for part, feature, words in _REFUSALS:
        if part in body and words.search(text[:4_000]):
            return feature
    return None


def is_blank_without_end(answer: Answer) -> bool:
    """Blanks up to the token limit."""
    return answer.finish_reason == "length" and BLANKS_WITHOUT_END.search(answer) is not None


def _is_json_honoured(answer: Answer) -> bool | None:
    """Whether an answer shows that the wish for JSON was heard; None where it shows nothing."""
    said = split_thinking(answer)[1]
    if answer.finish_reason == "length" or not said:
        return None
    try:
        return isinstance(read_json(said), dict)
    except ValueError:
        return False
