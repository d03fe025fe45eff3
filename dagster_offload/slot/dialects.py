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


class Wish(StrEnum):
    JSON = "response_format"
    NO_THINKING = "thinking_off"


JSON_SCHEMA = "json_schema"  # OpenAI, llama.cpp, vLLM, LM Studio, Ollama
OBJECT_WITH_SCHEMA = "json_object with schema"  # llama.cpp, some routers
OBJECT = "json_object"  # DeepSeek, older servers

TEMPLATE = "chat_template_kwargs"  # llama.cpp, vLLM, SGLang, mlx: a switch of the model's chat template
EFFORT_NONE = "reasoning_effort none"  # llama.cpp, Ollama, OpenAI
EFFORT_MINIMAL = "reasoning_effort minimal"  # OpenAI's models that know no `none`
NO_THINK = "/no_think"  # Qwen3's template reads it out of the message, whatever stands between

WAYS = {
    Wish.JSON: (JSON_SCHEMA, OBJECT_WITH_SCHEMA, OBJECT),
    Wish.NO_THINKING: (TEMPLATE, EFFORT_NONE, EFFORT_MINIMAL, NO_THINK),
}
FIRST_WAYS: Mapping[Wish, str | None] = {wish: ways[0] for wish, ways in WAYS.items()}

# A refusal names the part of the request that it is about. llama.cpp's 500 for an answer outside its grammar speaks of a
# "peg-native format".
_REFUSALS = (
    (
        "response_format",
        Wish.JSON,
        re.compile(
            r"response[_ ]format|json[_ ]schema|json[_ ]object|grammar|guided|structured|peg-native|\bschema\b",
            re.IGNORECASE,
        ),
    ),
    ("chat_template_kwargs", Wish.NO_THINKING, re.compile(r"chat[_ ]template|enable_thinking", re.IGNORECASE)),
    ("reasoning_effort", Wish.NO_THINKING, re.compile(r"reasoning|\bthink", re.IGNORECASE)),
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
        self._findings: dict[tuple[Wish, str], Finding] = {}
        self._doubts: dict[tuple[Wish, str], int] = {}
        if findings is None:
            return
        for wish, ways in WAYS.items():
            for way in ways:
                found = findings.get(wish, {}).get(way)
                if found in set(Finding):
                    self._findings[wish, way] = Finding(found)

    def copy(self) -> "Dialects":
        """The same findings, and no doubts yet."""
        made = Dialects()
        made._findings = dict(self._findings)
        return made

    @property
    def findings(self) -> Findings:
        found: dict[str, dict[str, str]] = {}
        for (wish, way), finding in self._findings.items():
            found.setdefault(str(wish), {})[way] = str(finding)
        return found

    def finding(self, wish: Wish, way: str) -> Finding | None:
        return self._findings.get((wish, way))

    def way(self, wish: Wish) -> str | None:
        """The way to use now; None where the server knows none of them."""
        usable = (way for way in WAYS[wish] if self.finding(wish, way) in {None, Finding.OBEYED})
        return next(usable, None)

    @property
    def ways(self) -> dict[Wish, str | None]:
        return {wish: self.way(wish) for wish in Wish}

    def note(self, wish: Wish, way: str, finding: Finding) -> None:
        self._findings[wish, way] = finding
        self._doubts.pop((wish, way), None)

    def doubt(self, wish: Wish, way: str, finding: Finding) -> None:
        """Note it once it was seen three times running."""
        self._doubts[wish, way] = self._doubts.get((wish, way), 0) + 1
        if self._doubts[wish, way] >= DOUBTS_TO_BELIEVE:
            self.note(wish, way, finding)

    def note_refusal(self, wish: Wish, way: str, status_code: int) -> None:
        """A 4xx or 501 spoke about the request, a 500 perhaps about one answer."""
        if status_code == SERVER_ERROR:
            self.doubt(wish, way, Finding.REFUSED)
        else:
            self.note(wish, way, Finding.REFUSED)

    def learn(self, ways: Mapping[Wish, str | None], options: RequestOptions, answer: Answer) -> None:
        """Note what an answer to a request in `ways` shows, and whether it is worth asking otherwise."""
        json_way, quiet_way = ways[Wish.JSON], ways[Wish.NO_THINKING]
        if options.response_schema is not None and json_way is not None:
            if is_blank_without_end(answer):
                self.doubt(Wish.JSON, json_way, Finding.IGNORED)
            elif (is_heard := _is_json_wish_heard(answer)) is not None:
                self.note(Wish.JSON, json_way, Finding.OBEYED if is_heard else Finding.IGNORED)
        if options.thinking is False and quiet_way is not None:
            if not answer.thinking_tokens and answer.strip():
                self.note(Wish.NO_THINKING, quiet_way, Finding.OBEYED)
            elif answer.thinking_tokens and self.finding(Wish.NO_THINKING, quiet_way) is Finding.OBEYED:
                self.doubt(Wish.NO_THINKING, quiet_way, Finding.IGNORED)
            elif answer.thinking_tokens:
                self.note(Wish.NO_THINKING, quiet_way, Finding.IGNORED)
            has_other_way = self.way(Wish.NO_THINKING) != quiet_way
            answer.is_worth_asking_otherwise = answer.thinking_tokens > 0 and has_other_way


def ask_for_json(body: dict[str, Any], way: str | None, schema: dict[str, Any]) -> None:
    """Put the wish for an answer that fits `schema` into a request."""
    if way == JSON_SCHEMA:
        named = {"name": str(schema.get("title", "answer")), "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    elif way == OBJECT_WITH_SCHEMA:
        body["response_format"] = {"type": "json_object", "schema": schema}
    elif way == OBJECT:
        body["response_format"] = {"type": "json_object"}


def ask_about_thinking(body: dict[str, Any], way: str | None, *, wanted: bool) -> None:
    """Put the wish for an answer with or without thinking into a request; the last message is the user's."""
    if way == TEMPLATE:
        body["chat_template_kwargs"] = {"enable_thinking": wanted}
    elif way in {EFFORT_NONE, EFFORT_MINIMAL} and not wanted:
        body["reasoning_effort"] = way.rpartition(" ")[2]
    elif way == NO_THINK and not wanted:
        # At the very end, where it costs no cached prompt.
        body["messages"][-1]["content"] += f"\n\n{NO_THINK}"


def refused_wish(status_code: int, text: str, body: Mapping[str, Any]) -> Wish | None:
    """The wish in `body` that this refusal seems to be about, or None."""
    if status_code not in _REFUSAL_STATUS_CODES:
        return None
    for part, wish, words in _REFUSALS:
        if part in body and words.search(text[:4_000]):
            return wish
    return None


def is_blank_without_end(answer: Answer) -> bool:
    """Blanks up to the token limit."""
    return answer.finish_reason == "length" and BLANKS_WITHOUT_END.search(answer) is not None


def _is_json_wish_heard(answer: Answer) -> bool | None:
    """Whether an answer shows that the wish for JSON was heard; None where it shows nothing."""
    said = split_thinking(answer)[1]
    if answer.finish_reason == "length" or not said:
        return None
    try:
        return isinstance(read_json(said), dict)
    except ValueError:
        return False
