"""Mark the places of pictures in a document's text, so that their words can be filled in where they are.

A reader writes a mark with the picture's name. `readers` finds the words of each picture, and removes marks without
words.
"""

import re
from collections.abc import Mapping

_BEGIN, _END = "\ufdd0", "\ufdd1"  # characters that Unicode reserves for uses such as this one
_MARK = re.compile(f"{_BEGIN}([^{_BEGIN}{_END}\n]+){_END}")


def picture_mark(name: str) -> str:
    """Return the mark of a picture. `name` identifies it in its document."""
    return f"{_BEGIN}{name}{_END}"


def marked_pictures(text: str) -> list[str]:
    """Return the names of the pictures that are marked in a text, each once, in order."""
    return list(dict.fromkeys(_MARK.findall(text)))


def filled(text: str, words: Mapping[str, str]) -> str:
    """Return the text with the words of each picture in place of its mark."""
    if _BEGIN not in text:
        return text
    blocks = (_filled_block(block, words) if _BEGIN in block else block for block in text.split("\n\n"))
    return "\n\n".join(block for block in blocks if block is not None)


def _filled_block(block: str, words: Mapping[str, str]) -> str | None:
    lines = []
    for line in block.split("\n"):
        shown = {
            name: _in_row(words.get(name, "")) if line.startswith("|") else words.get(name, "")
            for name in _MARK.findall(line)
        }
        kept = _MARK.sub(lambda mark: shown[mark[1]], line)  # noqa: B023 - called at once
        if kept.strip() or not shown:
            lines.append(kept)
    return "\n".join(lines) if lines else None


def _in_row(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|")
