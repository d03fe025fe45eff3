"""Marks in a line of text for what its letters do not say: that they are raised, struck out or a part of a fraction.

A reader marks such places, because it seldom reads a number and what is beside it in one step. `shown_line` replaces the
marks. Raised digits are written as Unicode has them: 10 with a raised 6 is not 106, and the mark of a footnote is no digit
of a number. Fractions stay apart from what is beside them: 2 and a half is not 21/2. Text that is struck out no longer
holds: it is written as in Markdown, ~~500~~. No I/O.
"""

import re

# Noncharacters, which no text has.
RAISED_BEGINS, RAISED_ENDS, APART, STRUCK_BEGINS, STRUCK_ENDS = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3", "\ufdd4"
_AFTER_NUMBER = re.compile(f"(?<=[0-9%)]){RAISED_BEGINS}([-+−–]?[0-9]+(?:[.,][0-9]+)*){RAISED_ENDS}")
_BETWEEN = re.compile(rf"(?<=\w){APART}+(?=\w)")
_EDGE = re.compile(f"[{STRUCK_BEGINS}{STRUCK_ENDS}]")
_GONE_ON = re.compile(f"{STRUCK_ENDS}([ \t]*){STRUCK_BEGINS}")  # struck out in several steps
_STRUCK = re.compile(f"{STRUCK_BEGINS}([^{STRUCK_BEGINS}{STRUCK_ENDS}]*){STRUCK_ENDS}")
_MARKS = re.compile(f"[{RAISED_BEGINS}{RAISED_ENDS}{APART}{STRUCK_BEGINS}{STRUCK_ENDS}]")
_RAISED = str.maketrans("0123456789+-−–", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻")


def raised(text: str) -> str:
    """Return a text that is raised, with marks."""
    return f"{RAISED_BEGINS}{text}{RAISED_ENDS}" if text else ""


def struck(text: str) -> str:
    """Return a text that is struck out, with marks."""
    return f"{STRUCK_BEGINS}{text}{STRUCK_ENDS}" if text else ""


def not_struck(text: str) -> str:
    """Return a text with marks that take it out of the text around it, if that is struck out."""
    return f"{STRUCK_ENDS}{text}{STRUCK_BEGINS}" if text else ""


def marked(text: str, *, is_raised: bool, is_struck: bool) -> str:
    """Return a text with marks if it is raised or struck out."""
    text = raised(text) if is_raised else text
    return struck(text) if is_struck else text


def shown_line(line: str) -> str:
    """Return a line without marks. Digits that are raised beside a number stay apart from it; other text is not changed."""
    if _MARKS.search(line) is None:
        return line
    line = _STRUCK.sub(_in_markdown, _GONE_ON.sub(r"\1", _outermost(line)))
    joined = _BETWEEN.sub(" ", line.replace(RAISED_ENDS + RAISED_BEGINS, ""))
    return _MARKS.sub("", _AFTER_NUMBER.sub(lambda found: found[1].translate(_RAISED), joined))


def _outermost(line: str) -> str:
    """Leave only the marks where text begins or ends to be struck out, and put them around those of raised text."""
    depth = 0

    def edge(mark: re.Match[str]) -> str:
        nonlocal depth
        was_struck = depth > 0
        depth += 1 if mark[0] == STRUCK_BEGINS else -1
        return mark[0] if was_struck != (depth > 0) else ""

    line = line.replace(RAISED_BEGINS + STRUCK_BEGINS, STRUCK_BEGINS + RAISED_BEGINS)
    return _EDGE.sub(edge, line.replace(STRUCK_ENDS + RAISED_ENDS, RAISED_ENDS + STRUCK_ENDS))


def _in_markdown(found: re.Match[str]) -> str:
    """Strike out the words, without the blanks around them. A line end in them ends a line of Markdown."""
    lines = found[1].split("\n")
    return "\n".join(line.replace(words, f"~~{words}~~") if (words := line.strip()) else line for line in lines)
