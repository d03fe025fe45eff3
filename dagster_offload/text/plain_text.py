"""Text that others wrote (names, answers, error messages), made safe to store and to show.

Two kinds of characters do harm where text is shown: control characters, which drive a terminal, and direction
characters, which let text read otherwise than it is. `cleaned` removes them, for what is stored; `escaped` writes them
out (`\\x1b`, `\\u202e`), for what is shown.
"""

import re

_CONTROL = "\x00-\x08\x0e-\x1f\x7f-\x9f"
# Marks, embeddings, overrides and isolates (Unicode annex 9), deprecated format characters, annotations, and tags,
# which spell text that no person sees. Joiners stay: Persian, Hindi and emoji need them.
_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ufff9-\ufffb\U000e0000-\U000e007f"
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_HARMFUL = re.compile(f"[{_CONTROL}{_DIRECTION}]")
_HARMFUL_OR_LINE_END = re.compile(f"[\t\n\x0b\x0c\r\u2028\u2029\ud800-\udfff{_CONTROL}{_DIRECTION}]")


def cleaned(text: str) -> str:
    """`text` without control and direction characters; tabs stay, and every line ends with a newline character."""
    return _HARMFUL.sub("", _LINE_END.sub("\n", text))


def escaped(text: str) -> str:
    """`text` on one line, with control and direction characters and line ends as Python writes them."""
    return _HARMFUL_OR_LINE_END.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def escaped_lines(text: str) -> str:
    """The same for text of several lines."""
    return "\n".join(escaped(line) for line in text.split("\n"))


def code_span(text: str) -> str:
    """`text` as a Markdown code span, in which no link, image or HTML of others comes to life."""
    return f"`{escaped(text).replace('`', chr(39))}`"


def escaped_json(document: str) -> str:
    """A JSON document that says the same, without a harmful character in it."""
    return _HARMFUL.sub(lambda found: _json_escape(found[0]), document)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def shortened(text: str, longest: int) -> str:
    """At most `longest` characters; what is cut off leaves an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
