"""The dialect of a server: which variant of each request feature it supports.

A request has four features: JSON output, no thinking, the document and a token limit. Each has variants, tried in order.
A variant that the server refuses or ignores is not used again. Without a usable variant, the feature is not sent: the
prompt alone requests JSON, and an answer gets extra tokens to think. The document and the token limit are always sent, so
their last variant stays in use.

A later variant of JSON is better only if it gives JSON where an earlier one gives none. A model that answers no request
with JSON shows nothing about them. So a variant that was obeyed before is asked for again once another one is obeyed, and it
stays in use if none is, unless its answers are blanks without end: then the prompt alone may be better.

This module knows no products or models, only how a slot's server answered. No I/O.
"""

import re
from collections.abc import Hashable, Mapping
from enum import StrEnum
from typing import Any

from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.slot.thinking import split_thinking
from dagster_offload.text.lenient_json import objects_in_prose, read_written_json


class Feature(StrEnum):
    """A part of a request that servers expect in different forms."""

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
NO_THINK = "/no_think"  # Qwen3's chat template finds it anywhere in the message

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

# Prose, endless blanks or a refusal may be specific to one answer. They count as the server's behaviour once the answers to
# three different documents show them without another answer between them.
DOCUMENTS_AS_EVIDENCE = 3

SECONDS_UNTIL_ASKED_AGAIN = 3600.0  # for a variant that was obeyed before, and then was worse than another one

# Grammars allow blanks between any two parts of a JSON text, and some models then write only blanks (jundot/omlx #2990).
ENDLESS_BLANKS = re.compile(r"^\s+$|(?:\s|\\[nrt]){200}")


class Finding(StrEnum):
    """What a server did with a variant."""

    OBEYED = "obeyed"
    IN_REASONING = "obeyed in its reasoning"  # the JSON is in the reasoning field, and the content is empty
    IGNORED = "ignored"
    EMPTY = "answered with nothing"
    REFUSED = "refused"
    DOUBTED = "obeyed before but not lately"  # whether another variant is better is not known yet
    ASKED_AGAIN = "obeyed before and tried again"  # the next answer decides
    LOST = "no longer obeyed"  # it was obeyed before, and now another variant is obeyed where it is not


SHOWN_OBEYED = frozenset({Finding.OBEYED, Finding.IN_REASONING})
USABLE = frozenset({None, *SHOWN_OBEYED, Finding.ASKED_AGAIN})
ONCE_OBEYED = frozenset({Finding.DOUBTED, Finding.ASKED_AGAIN, Finding.LOST})
SHOWN_UNUSABLE = frozenset({Finding.IGNORED, Finding.EMPTY})  # by answers, which a refusal is not

Findings = Mapping[str, Mapping[str, str]]  # by feature and variant, as stored in the ledger


class Dialects:
    """The findings about one slot's server, for each variant of each feature."""

    def __init__(self, findings: Findings | None = None) -> None:
        self._findings: dict[tuple[Feature, str], Finding] = {}
        self._evidence: dict[tuple[Feature, str | None], set[Hashable]] = {}
        self._variants: dict[Feature, str | None] | None = None  # None = to be chosen from the findings
        self._lost_since: float | None = None  # None = a variant that is lost was found by an earlier process
        if findings is None:
            return
        for feature, variants in VARIANTS.items():
            for variant in variants:
                stored = findings.get(feature, {}).get(variant)
                if stored in set(Finding):
                    self._findings[feature, variant] = Finding(stored)

    def copy(self) -> "Dialects":
        """A copy with the same findings and no evidence."""
        copied = Dialects()
        copied._findings = dict(self._findings)
        return copied

    @property
    def findings(self) -> Findings:
        """All findings, as the ledger stores them."""
        stored: dict[str, dict[str, str]] = {}
        for (feature, variant), finding in self._findings.items():
            stored.setdefault(str(feature), {})[variant] = str(finding)
        return stored

    def has_findings_of(self, other: "Dialects") -> bool:
        """Whether both have the same findings."""
        return self._findings == other._findings

    def finding(self, feature: Feature, variant: str) -> Finding | None:
        """The finding about one variant; None if there is none yet."""
        return self._findings.get((feature, variant))

    def variant(self, feature: Feature) -> str | None:
        """The variant to use now; None if the server supports none."""
        for good_enough in (USABLE, {Finding.DOUBTED}, {Finding.LOST}):
            for variant in VARIANTS[feature]:
                if self.finding(feature, variant) in good_enough:
                    return variant
        return VARIANTS[feature][-1] if feature in ALWAYS_SENT else None

    @property
    def variants(self) -> Mapping[Feature, str | None]:
        """The variant to use now, for each feature."""
        if self._variants is None:
            self._variants = {feature: self.variant(feature) for feature in Feature}
        return self._variants

    def note(self, feature: Feature, variant: str, finding: Finding) -> None:
        """Record a finding, which also clears the evidence against the variant."""
        self._evidence.pop((feature, variant), None)
        if self._findings.get((feature, variant)) is not finding:  # nearly every answer shows what is known
            self._findings[feature, variant] = finding
            self._variants = None

    def _add_evidence(self, feature: Feature, variant: str, finding: Finding, document: Hashable = None) -> None:
        """Record `finding` once three different documents have shown it. None counts as a new document."""
        documents = self._evidence.setdefault((feature, variant), set())
        documents.add(object() if document is None else document)
        if len(documents) >= DOCUMENTS_AS_EVIDENCE:
            self.note(feature, variant, finding)

    def note_refusal(
        self, feature: Feature, variant: str, document: Hashable = None, *, is_about_one_answer: bool
    ) -> None:
        """Record a refusal: at once if it is about the request. One that may be about one answer counts only as evidence."""
        if is_about_one_answer and feature not in ALWAYS_SENT:
            self._add_evidence(feature, variant, Finding.REFUSED, document)
        else:
            self.note(feature, variant, Finding.REFUSED)

    def _learn_of_json(self, variant: str | None, answer: Answer, document: Hashable, now: float) -> None:
        """Record what an answer shows about the variant of its request for JSON; None = requested by the prompt alone."""
        shown = shown_of_json(answer)
        if shown is None:
            return
        if variant is None:
            has_json = shown in SHOWN_OBEYED or has_an_object(answer)
            self._learn_of_the_prompt_alone(document, has_json=has_json)
            return
        before = self.finding(Feature.JSON, variant)
        if shown in SHOWN_OBEYED:
            if before in ONCE_OBEYED:
                self._forget_what_answers_showed_unusable()  # the model gave no JSON then, however it was requested
            self.note(Feature.JSON, variant, shown)
            self._ask_again(now)
        elif before is Finding.ASKED_AGAIN:
            self.note(Feature.JSON, variant, Finding.LOST)
            self._lost_since = now
        elif before in SHOWN_OBEYED:
            self._add_evidence(Feature.JSON, variant, Finding.DOUBTED, document)
        elif before in ONCE_OBEYED and is_blank_without_end(answer) and self.variant(Feature.JSON) == variant:
            # No other variant is left. Only a grammar makes a model write blanks, so the prompt alone may give JSON.
            self._add_evidence(Feature.JSON, variant, Finding.EMPTY, document)
        elif before is None:
            self._add_evidence(Feature.JSON, variant, shown, document)

    def _learn_of_the_prompt_alone(self, document: Hashable, *, has_json: bool) -> None:
        """Forget which variants gave no JSON, once the prompt alone gave none for three different documents either."""
        evidence = self._evidence.setdefault((Feature.JSON, None), set())
        evidence.add(object() if document is None else document)
        is_known = has_json or len(evidence) >= DOCUMENTS_AS_EVIDENCE
        if is_known:
            evidence.clear()
        if is_known and not has_json:
            self._forget_what_answers_showed_unusable()

    def _ask_again(self, now: float) -> None:
        """After an answer with JSON: ask again for better variants that were obeyed before, the lost ones once an hour."""
        if self._lost_since is None:
            self._lost_since = now
        again = {Finding.DOUBTED}
        if now - self._lost_since >= SECONDS_UNTIL_ASKED_AGAIN:
            again.add(Finding.LOST)
        for variant in VARIANTS[Feature.JSON]:
            finding = self.finding(Feature.JSON, variant)
            if finding in SHOWN_OBEYED:
                return
            if finding in again:
                self.note(Feature.JSON, variant, Finding.ASKED_AGAIN)

    def _forget_what_answers_showed_unusable(self) -> None:
        for variant in VARIANTS[Feature.JSON]:
            if self.finding(Feature.JSON, variant) in SHOWN_UNUSABLE:
                del self._findings[Feature.JSON, variant]
        self._variants = None

    def learn(
        self,
        variants: Mapping[Feature, str | None],
        options: RequestOptions,
        answer: Answer,
        document: Hashable = None,
        now: float = 0.0,
    ) -> None:
        """Record what an answer to a request with `variants` shows, and set its `is_worth_asking_otherwise`.

        `document` identifies the document that the request is about: equal values mean the same document. `now` is the time
        in seconds by any clock.
        """
        answer.variants = {str(feature): variant for feature, variant in variants.items()}
        json_variant, quiet_variant = variants[Feature.JSON], variants[Feature.NO_THINKING]
        if options.response_schema is not None:
            self._learn_of_json(json_variant, answer, document, now)
        if options.thinking is False and quiet_variant is not None:
            if not answer.thinking_tokens and (answer.strip() or answer.is_in_reasoning):
                self.note(Feature.NO_THINKING, quiet_variant, Finding.OBEYED)
            elif answer.thinking_tokens and self.finding(Feature.NO_THINKING, quiet_variant) is Finding.OBEYED:
                self._add_evidence(Feature.NO_THINKING, quiet_variant, Finding.IGNORED)
            elif answer.thinking_tokens:
                self.note(Feature.NO_THINKING, quiet_variant, Finding.IGNORED)
            has_other_variant = self.variant(Feature.NO_THINKING) != quiet_variant
            answer.is_worth_asking_otherwise = answer.thinking_tokens > 0 and has_other_variant


def after_a_wake(findings: Findings) -> Findings:
    """The findings that stay valid after the slot was unavailable: unusable variants of JSON are tried again."""
    of_json = findings.get(Feature.JSON, {})
    kept = {variant: finding for variant, finding in of_json.items() if finding in SHOWN_OBEYED}
    kept |= {variant: str(Finding.OBEYED) for variant, finding in of_json.items() if finding in ONCE_OBEYED}
    rest = {feature: variants for feature, variants in findings.items() if feature != Feature.JSON}
    return {**rest, str(Feature.JSON): kept} if kept else rest


def after_an_hour(findings: Findings) -> Findings:
    """The findings for a process that begins an hour later: a variant of JSON that was obeyed before is asked for again."""
    of_json = findings.get(Feature.JSON, {})
    doubted = {
        variant: str(Finding.DOUBTED) if finding == Finding.LOST else finding for variant, finding in of_json.items()
    }
    return {**findings, str(Feature.JSON): doubted} if doubted else findings


def dialects_in_words(known: Dialects) -> list[str]:
    """One line per feature for people: the variant in use and the findings."""
    lines = []
    for feature, name in (
        (Feature.JSON, "JSON is requested"),
        (Feature.NO_THINKING, "no thinking is requested"),
        (Feature.DOCUMENT, "the document is sent"),
        (Feature.TOKEN_LIMIT, "the token limit is sent"),
    ):
        variant = known.variant(feature)
        used = NOT_SENT[feature] if variant is None else f"{name} as {variant}"
        findings = [
            f"{variant}: {finding}"
            for variant in VARIANTS[feature]
            if (finding := known.finding(feature, variant)) is not None
        ]
        is_shown = bool(findings) or feature not in ALWAYS_SENT
        lines.append(f"{used} ({', '.join(findings) or 'not tried yet'})" if is_shown else used)
    if known.variant(Feature.DOCUMENT) == IN_USER_MESSAGE:
        lines.append(COST_OF_THE_USER_MESSAGE)
    return lines


NOT_SENT = {
    Feature.JSON: "JSON is requested by the prompt alone, and every answer is checked",
    Feature.NO_THINKING: "thinking cannot be turned off: answers get extra tokens for it",
}
COST_OF_THE_USER_MESSAGE = (
    "the model's chat template has no system role, so the document is sent in the user message: with some models the "
    "server's prompt cache does not keep it there, and each stage reads the document again"
)


def request_json(body: dict[str, Any], variant: str | None, schema: dict[str, Any]) -> None:
    """Add the request for an answer that fits `schema` to a request body."""
    if variant == JSON_SCHEMA:
        named = {"name": str(schema.get("title", "answer")), "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    elif variant == OBJECT_WITH_SCHEMA:
        body["response_format"] = {"type": "json_object", "schema": schema}
    elif variant == OBJECT:
        body["response_format"] = {"type": "json_object"}


def request_thinking(body: dict[str, Any], variant: str | None, *, wanted: bool) -> None:
    """Add the request to think, or not to think, to a request body whose last message is the user's."""
    if variant == TEMPLATE:
        body["chat_template_kwargs"] = {"enable_thinking": wanted}
    elif variant in {EFFORT_NONE, EFFORT_MINIMAL} and not wanted:
        body["reasoning_effort"] = variant.rpartition(" ")[2]
    elif variant == NO_THINK and not wanted:
        # At the end of the prompt, so that the cached part of the prompt stays valid.
        body["messages"][-1]["content"] += f"\n\n{NO_THINK}"


def is_blank_without_end(answer: Answer) -> bool:
    """Whether the answer is cut at its token limit and full of blanks."""
    return answer.finish_reason == "length" and ENDLESS_BLANKS.search(answer) is not None


def has_an_object(answer: Answer) -> bool:
    """Whether the answer holds a JSON object, also one between prose."""
    text = split_thinking(answer)[1] or ""
    return any(isinstance(found, dict) for found in objects_in_prose(text))


def shown_of_json(answer: Answer) -> Finding | None:
    """The finding that an answer shows about the variant of its JSON request; None if it shows nothing."""
    if is_blank_without_end(answer):
        return Finding.EMPTY
    if answer.is_in_reasoning:
        return Finding.IN_REASONING
    text = split_thinking(answer)[1]
    if answer.finish_reason == "length" or text is None:
        return None
    if not text:
        return Finding.EMPTY
    try:
        return Finding.OBEYED if isinstance(read_written_json(text), dict) else Finding.IGNORED
    except ValueError:
        return Finding.IGNORED
