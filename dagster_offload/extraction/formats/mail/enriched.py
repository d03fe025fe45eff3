"""Read texts of the type `text/enriched` (RFC 1896) and of its forerunner `text/richtext` (RFC 1341)."""

import re

_MARK = re.compile(r"<<|<(/?)([A-Za-z][\w-]{0,59})>|\n+")
_OF_COMMANDS = frozenset({"param", "comment"})  # what these elements hold is not shown
_SIGNS = {"lt": "<", "nl": "\n", "np": "\n\n"}  # of the forerunner


def enriched_text(text: str) -> str:
    """Return the text without its commands. A line end is a blank, more of them are one fewer, except in `nofill`.

    If a command is not closed, what it holds is shown: it may be the rest of the mail.
    """
    text = text.replace("\r\n", "\n")
    return _shown_text(text, _OF_COMMANDS) or _shown_text(text, frozenset()) or ""


def _shown_text(text: str, of_commands: frozenset[str]) -> str | None:
    """`text` without its commands and what the elements `of_commands` hold; None if one of these is not closed."""
    shown: list[str] = []
    hidden = unfilled = end = 0
    for mark in _MARK.finditer(text):
        if not hidden:
            shown.append(text[end : mark.start()])
        end = mark.end()
        name, step = (mark[2] or "").lower(), -1 if mark[1] else 1
        if name in of_commands:
            hidden = max(0, hidden + step)
        elif name == "nofill":
            unfilled = max(0, unfilled + step)
        elif not hidden:
            shown.append(_shown(mark[0], name, is_filled=not unfilled))
    return None if hidden else "".join([*shown, text[end:]])


def _shown(mark: str, name: str, *, is_filled: bool) -> str:
    if mark == "<<":
        return "<"
    if mark.startswith("\n"):
        return (mark[1:] or " ") if is_filled else mark
    return "\n\n" if name == "paragraph" else _SIGNS.get(name, "")
