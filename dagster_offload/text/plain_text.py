"""Makes untrusted text (names, answers, error messages) safe to store and to show.

Two kinds of characters are harmful in a display: control characters can control a terminal, and direction characters can
change the order in which text appears. `cleaned` removes them before text is stored; `escaped` replaces them with escape
sequences (`\\x1b`, `\\u202e`) before text is shown.
"""

import re

_CONTROL = "\x00-\x08\x0e-\x1f\x7f-\x9f"
# Marks, embeddings, overrides and isolates (Unicode annex 9), deprecated format characters, annotations, and tags, which
# encode invisible text. Joiners stay: Persian, Hindi and emoji need them.
_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ufff9-\ufffb\U000e0000-\U000e007f"
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_MARKDOWN = re.compile(r"[&<>\\`*_\[\]#|!~]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_HARMFUL = re.compile(f"[{_CONTROL}{_DIRECTION}]")
_HARMFUL_OR_LINE_END = re.compile(f"[\t\n\x0b\x0c\r\u2028\u2029\ud800-\udfff{_CONTROL}{_DIRECTION}]")


def cleaned(text: str) -> str:
    """`text` without control and direction characters. Tabs stay, and all line ends become newline characters."""
    if text.isprintable():  # a fraction of the time of the searches: no harmful character is printable, and no line end
        return text
    return _HARMFUL.sub("", _LINE_END.sub("\n", text))


def escaped(text: str) -> str:
    """`text` on one line, with control and direction characters and line ends as Python escape sequences."""
    if text.isprintable():  # as in `cleaned`
        return text
    return _HARMFUL_OR_LINE_END.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def escaped_lines(text: str) -> str:
    """Like `escaped`, but keeps the line breaks."""
    return "\n".join(escaped(line) for line in text.split("\n"))


def code_span(text: str) -> str:
    """`text` as a Markdown code span, so that no link, image or HTML in it is rendered."""
    return f"`{escaped(text).replace('`', chr(39))}`"


def markdown_text(text: str) -> str:
    """`text` on one line as Markdown that shows it as it is: no link, image, HTML, emphasis or table cell of its own."""
    return _MARKDOWN.sub(lambda found: _ENTITIES.get(found[0]) or f"\\{found[0]}", escaped(text))


def escaped_json(document: str) -> str:
    """An equivalent JSON document with harmful characters escaped."""
    return _HARMFUL.sub(lambda found: _json_escape(found[0]), document)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def shortened(text: str, longest: int) -> str:
    """`text` cut to at most `longest` characters, with an ellipsis if it was cut."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
