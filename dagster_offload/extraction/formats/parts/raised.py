"""Write raised digits as Unicode has them: 10 with a raised 6 is not 106, and the mark of a footnote is no digit of a number.

A reader marks what is raised, because it seldom reads a number and what is raised beside it in one step. No I/O.
"""

import re

RAISED_BEGINS, RAISED_ENDS = "\ufdd0", "\ufdd1"  # noncharacters, which no text has
_AFTER_NUMBER = re.compile(f"(?<=[0-9%)]){RAISED_BEGINS}([-+−–]?[0-9]+(?:[.,][0-9]+)*){RAISED_ENDS}")
_MARKS = re.compile(f"[{RAISED_BEGINS}{RAISED_ENDS}]")
_RAISED = str.maketrans("0123456789+-−–", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻")


def raised(text: str) -> str:
    """Return a text that is raised, with marks."""
    return f"{RAISED_BEGINS}{text}{RAISED_ENDS}" if text else ""


def with_raised_digits(line: str) -> str:
    """Return a line without marks. Digits that are raised beside a number stay apart from it; other text is not changed."""
    if RAISED_BEGINS not in line:
        return line
    joined = line.replace(RAISED_ENDS + RAISED_BEGINS, "")
    return _MARKS.sub("", _AFTER_NUMBER.sub(lambda found: found[1].translate(_RAISED), joined))
