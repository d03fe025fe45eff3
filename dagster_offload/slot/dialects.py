"""The dialects of a request: how a server is asked for JSON, asked not to think, given the document, and given a limit.

Each wish has its ways, tried from the first on. A way that the server refuses or ignores is passed over from then on;
where none is left the wish is not sent: the instruction alone asks for JSON, and an answer gets room to think. A document
and a limit are always sent, so the last way of these stays. Nothing here knows makes or models, only what the server at a
slot did with what it was sent. No I/O.
"""

import re
from collections.abc import Hashable, Mapping
from enum import StrEnum
from typing import Any

from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.slot.thinking import split_thinking
from dagster_offload.text.lenient_json import read_written_json


class Feature(StrEnum):
    JSON = "response_format"
    NO_THINKING = "thinking_off"
    DOCUMENT = "document"
    TOKEN_LIMIT = "token_limit"  # noqa: S105 - no secret


JSON_SCHEMA = "json_schema"  # OpenAI, llama.cpp, vLLM, LM Studio, Ollama
OBJECT_WITH_SCHEMA = "json_object with schema"  # llama.cpp, some routers
OBJECT = "json_object"  # DeepSeek, older servers

TEMPLATE = "chat_template_kwargs"  # llama.cpp, vLLM, SGLang, mlx: a switch of the model's chat template
EFFORT_NONE = "reasoning_effort none"  # llama.cpp, Ollama, OpenAI
EFFORT_MINIMAL = "reasoning_effort minimal"  # OpenAI's models that know no `none`
NO_THINK = "/no_think"  # Qwen3's template reads it out of the message, whatever stands between

SYSTEM_MESSAGE = "system message"
IN_USER_MESSAGE = "part of the user message"  # chat templates without a system role: Gemma 2, older Mistral

MAX_TOKENS = "max_tokens"
MAX_COMPLETION_TOKENS = "max_completion_tokens"  # OpenAI's newer models, and proxies in front of them

VARIANTS = {
    Feature.JSON: (JSON_SCHEMA, OBJECT_WITH_SCHEMA, OBJECT),
    Feature.NO_THINKING: (TEMPLATE, EFFORT_NONE, EFFORT_MINIMAL, NO_THINK),
    Feature.DOCUMENT: (SYSTEM_MESSAGE, IN_USER_MESSAGE),
    Feature.TOKEN_LIMIT: (MAX_TOKENS, MAX_COMPLETION_TOKENS),
}
FIRST_VARIANTS: Mapping[Feature, str | None] = {feature: variants[0] for feature, variants in VARIANTS.items()}
ALWAYS_SENT = frozenset({Feature.DOCUMENT, Feature.TOKEN_LIMIT})

SERVER_ERROR = 500

# What may be one answer's own (prose, blanks without end, a 500) is the server's habit once the answers to three different
# documents showed it, with no other answer between them.
DOUBTS_TO_BELIEVE = 3

# Grammars allow blanks between any two parts of a JSON text, and some models then write nothing else (jundot/omlx #2990).
BLANKS_WITHOUT_END = re.compile(r"^\s+$|(?:\s|\\[nrt]){200}")


class Finding(StrEnum):
    """What a server did with a way."""

    OBEYED = "obeyed"
    IN_REASONING = "obeyed in its reasoning"  # the JSON stands in the field for thinking, and the content is empty
    IGNORED = "ignored"
    EMPTY = "answered with nothing"
    REFUSED = "refused"


USABLE = frozenset({None, Finding.OBEYED, Finding.IN_REASONING})


Findings = Mapping[str, Mapping[str, str]]  # by wish, by way: as the ledger keeps them


class Dialects:
    """What one slot's server was found to do with each way of each wish."""

    def __init__(self, findings: Findings | None = None) -> None:
        self._findings: dict[tuple[Feature, str], Finding] = {}
        self._doubts: dict[tuple[Feature, str], set[Hashable]] = {}
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
        usable = (variant for variant in VARIANTS[feature] if self.finding(feature, variant) in USABLE)
        return next(usable, VARIANTS[feature][-1] if feature in ALWAYS_SENT else None)

    @property
    def variants(self) -> dict[Feature, str | None]:
        return {feature: self.variant(feature) for feature in Feature}

    def note(self, feature: Feature, variant: str, finding: Finding) -> None:
        self._findings[feature, variant] = finding
        self._doubts.pop((feature, variant), None)

    def doubt(self, feature: Feature, variant: str, finding: Finding, document: Hashable = None) -> None:
        """Note it once the answers to three different documents showed it. None: a document of its own."""
        seen = self._doubts.setdefault((feature, variant), set())
        seen.add(object() if document is None else document)
        if len(seen) >= DOUBTS_TO_BELIEVE:
            self.note(feature, variant, finding)

    def note_refusal(self, feature: Feature, variant: str, status_code: int, document: Hashable = None) -> None:
        """A 4xx or 501 is about the request, a 500 about a wish for JSON perhaps about one answer."""
        if status_code == SERVER_ERROR and feature not in ALWAYS_SENT:
            self.doubt(feature, variant, Finding.REFUSED, document)
        else:
            self.note(feature, variant, Finding.REFUSED)

    def learn(
        self, variants: Mapping[Feature, str | None], options: RequestOptions, answer: Answer, document: Hashable = None
    ) -> None:
        """Note what an answer to a request in `ways` shows, and whether it is worth asking otherwise. `document`: which
        one it is about, equal for equal ones."""
        answer.variants = {str(feature): variant for feature, variant in variants.items()}
        json_variant, quiet_variant = variants[Feature.JSON], variants[Feature.NO_THINKING]
        if options.response_schema is not None and json_variant is not None:
            shown = shown_of_json(answer)
            if shown is Finding.OBEYED or shown is Finding.IN_REASONING:
                self.note(Feature.JSON, json_variant, shown)
            elif shown is not None:
                self.doubt(Feature.JSON, json_variant, shown, document)
        if options.thinking is False and quiet_variant is not None:
            if not answer.thinking_tokens and (answer.strip() or answer.is_in_reasoning):
                self.note(Feature.NO_THINKING, quiet_variant, Finding.OBEYED)
            elif answer.thinking_tokens and self.finding(Feature.NO_THINKING, quiet_variant) is Finding.OBEYED:
                self.doubt(Feature.NO_THINKING, quiet_variant, Finding.IGNORED)
            elif answer.thinking_tokens:
                self.note(Feature.NO_THINKING, quiet_variant, Finding.IGNORED)
            has_other_variant = self.variant(Feature.NO_THINKING) != quiet_variant
            answer.is_worth_asking_otherwise = answer.thinking_tokens > 0 and has_other_variant


def after_a_wake(findings: Findings) -> Findings:
    """What of the findings still counts once the slot was away: ways of asking for JSON get another chance."""
    json_ways = findings.get(Feature.JSON, {})
    kept = {variant: found for variant, found in json_ways.items() if found in {Finding.OBEYED, Finding.IN_REASONING}}
    rest = {feature: variants for feature, variants in findings.items() if feature != Feature.JSON}
    return {**rest, str(Feature.JSON): kept} if kept else rest


def dialects_in_words(known: Dialects) -> list[str]:
    """What is used of each wish's ways and why, a line each, for people."""
    lines = []
    for feature, name in (
        (Feature.JSON, "JSON is asked for"),
        (Feature.NO_THINKING, "thinking is switched off"),
        (Feature.DOCUMENT, "the document is sent"),
        (Feature.TOKEN_LIMIT, "the token limit is sent"),
    ):
        variant = known.variant(feature)
        used = NOT_SENT[feature] if variant is None else f"{name} as {variant}"
        found = [
            f"{variant}: {finding}"
            for variant in VARIANTS[feature]
            if (finding := known.finding(feature, variant)) is not None
        ]
        lines.append(f"{used} ({', '.join(found) or 'not tried yet'})" if found or feature not in ALWAYS_SENT else used)
    if known.variant(Feature.DOCUMENT) == IN_USER_MESSAGE:
        lines.append(COST_OF_THE_USER_MESSAGE)
    return lines


NOT_SENT = {
    Feature.JSON: "JSON is asked for by the prompt alone, and every answer is checked",
    Feature.NO_THINKING: "thinking cannot be switched off: answers get room for it",
}
COST_OF_THE_USER_MESSAGE = (
    "the model's chat template has no system role, so the document stands in the user message: with some models the "
    "server's prompt cache does not keep it there, and each stage reads the document again"
)


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


def is_blank_without_end(answer: Answer) -> bool:
    """Blanks up to the token limit."""
    return answer.finish_reason == "length" and BLANKS_WITHOUT_END.search(answer) is not None


def shown_of_json(answer: Answer) -> Finding | None:
    """What an answer shows of the way in which JSON was asked for; None where it shows nothing."""
    if is_blank_without_end(answer):
        return Finding.EMPTY
    if answer.is_in_reasoning:
        return Finding.IN_REASONING
    said = split_thinking(answer)[1]
    if answer.finish_reason == "length" or said is None:
        return None
    if not said:
        return Finding.EMPTY
    try:
        return Finding.OBEYED if isinstance(read_written_json(said), dict) else Finding.IGNORED
    except ValueError:
        return Finding.IGNORED
