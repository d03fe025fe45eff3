"""Write raised digits as Unicode has them: 10 with a raised 6 is not 106, and the mark of a footnote is no digit of a number.

Fractions also stay apart from what is beside them: 2 and a half is not 21/2. A reader marks such places, because it seldom
reads a number and what is beside it in one step. No I/O.
"""

import re

RAISED_BEGINS, RAISED_ENDS, APART = "\ufdd0", "\ufdd1", "\ufdd2"  # noncharacters, which no text has
_AFTER_NUMBER = re.compile(f"(?<=[0-9%)]){RAISED_BEGINS}([-+−–]?[0-9]+(?:[.,][0-9]+)*){RAISED_ENDS}")
_BETWEEN = re.compile(rf"(?<=\w){APART}+(?=\w)")
_MARKS = re.compile(f"[{RAISED_BEGINS}{RAISED_ENDS}{APART}]")
_RAISED = str.maketrans("0123456789+-−–", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻")


def raised(text: str) -> str:
    """Return a text that is raised, with marks."""
    return f"{RAISED_BEGINS}{text}{RAISED_ENDS}" if text else ""


def with_raised_digits(line: str) -> str:
    """Return a line without marks. Digits that are raised beside a number stay apart from it; other text is not changed."""
    if _MARKS.search(line) is None:
        return line
    joined = _BETWEEN.sub(" ", line.replace(RAISED_ENDS + RAISED_BEGINS, ""))
    return _MARKS.sub("", _AFTER_NUMBER.sub(lambda found: found[1].translate(_RAISED), joined))
