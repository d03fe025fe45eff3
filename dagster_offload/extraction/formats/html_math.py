"""Write the formulas of a page on one line, as those of Office documents: (a+b)/2, x^2, √(x+1).

Format specification: MathML Core, 3.
"""

from collections.abc import Callable

from selectolax.lexbor import LexborNode

from dagster_offload.extraction.formats.parts.office_math import one_term
from dagster_offload.extraction.formats.parts.raised import APART

# The sign before each part of an element. None: the part is the base of the others, and has neither a sign nor brackets.
_SIGNS: dict[str, tuple[str | None, ...]] = {
    "mfrac": (APART, "/"),
    "msup": (None, "^"),
    "msub": (None, "_"),
    "msubsup": (None, "_", "^"),
    "munder": (None, "_"),
    "munderover": (None, "_", "^"),
}
_MAX_PIECES = 3  # of a part that may be one term


class Formulas:
    """The open formulas of a page. The walk through the page tells each element before its content."""

    def __init__(self) -> None:
        self._open = 0
        self._signs: dict[int, str] = {}  # of parts that are still to come, by node

    @property
    def are_open(self) -> bool:
        """Whether the walk is in a formula, where blanks around the letters of an element are not shown."""
        return self._open > 0

    def begin(self, node: LexborNode, line: list[str]) -> Callable[[], None] | None:
        """Write what is before an element in the line. Returns what to do after its content, None for nothing."""
        if node.tag == "math":
            return self._begin_formula()
        parts = _SIGNS.get(node.tag or "", ()) if self._open else ()
        for part, sign in zip((child for child in node.iter() if (child.tag or "")[:1].isalpha()), parts, strict=False):
            if sign is not None:
                self._signs[part.mem_id] = sign
        own = self._signs.pop(node.mem_id, None)
        if self._open and node.tag == "msqrt":
            own = (own or "") + "√"
        return None if own is None else _begin_part(own, line)

    def _begin_formula(self) -> Callable[[], None]:
        self._open += 1

        def end() -> None:
            self._open -= 1

        return end


def _begin_part(sign: str, line: list[str]) -> Callable[[], None]:
    place = len(line)
    line.append(sign)

    def end() -> None:
        pieces = line[place + 1 : place + 2 + _MAX_PIECES]
        text = "".join(pieces)
        if len(pieces) > _MAX_PIECES or one_term(text) != text:
            line[place] += "("
            line.append(")")
        if sign != APART:  # the numerator of a fraction is not its end
            line.append(APART)

    return end
