"""Write the formulas of a page on one line, as those of Office documents: (a+b)/2, x^2, √(x+1).

Format specification: MathML Core, 3.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from selectolax.lexbor import LexborNode

from dagster_offload.extraction.formats.parts.line_marks import APART
from dagster_offload.extraction.formats.parts.office_math import one_term

# The sign before each part of an element. None: the part is the base of the others, and has neither a sign nor brackets.
_SIGNS: dict[str, tuple[str | None, ...]] = {
    "mfrac": (APART, "/"),
    "msup": (None, "^"),
    "msub": (None, "_"),
    "msubsup": (None, "_", "^"),
    "munder": (None, "_"),
    "munderover": (None, "_", "^"),
    "mroot": ("√", APART),  # its base is first, and is read last
}
_SEPARATORS = {"mtable": "; ", "mtr": ", "}
_NO_BAR = re.compile(r"\s*0[0.]*\s*[a-z%]*\s*")  # a line without thickness, which a binomial has
_NOTHING = frozenset({"none", "mprescripts"})
_MAX_PIECES = 3  # of a part that may be one term


class Formulas:
    """The open formulas of a page. The walk through the page tells each element before its content."""

    def __init__(self) -> None:
        self._open = 0
        self._signs: dict[int, str] = {}  # of parts that are still to come, by node
        self._separators: dict[int, str] = {}  # before parts that are still to come, by node

    @property
    def are_open(self) -> bool:
        """Whether the walk is in a formula, where blanks around the letters of an element are not shown."""
        return self._open > 0

    def begin(self, node: LexborNode, line: list[str]) -> Callable[[], None] | None:
        """Write what is before an element in the line. Returns what to do after its content, None for nothing."""
        if node.tag == "math":
            return self._begin_formula()
        if not self._open:
            return None
        parts = [child for child in node.iter() if (child.tag or "")[:1].isalpha()]
        self._signs |= {part.mem_id: sign for part, sign in _signed(node, parts) if sign is not None}
        if separator := _separator(node):
            self._separators |= {part.mem_id: separator for part in parts[1:]}
        if node.mem_id in self._separators:
            line.append(self._separators.pop(node.mem_id))
        own = self._signs.pop(node.mem_id, None)
        if node.tag == "msqrt":
            own = (own or "") + "√"
        end = None if own is None else _begin_part(own, line)
        return _begin_fence(node, line, end) if node.tag == "mfenced" else end

    def _begin_formula(self) -> Callable[[], None]:
        self._open += 1

        def end() -> None:
            self._open -= 1

        return end


def _signed(node: LexborNode, parts: Sequence[LexborNode]) -> Iterator[tuple[LexborNode, str | None]]:
    """Yield the parts of an element that have a sign or are the base of the others, with the sign."""
    if node.tag == "mmultiscripts":
        beginning = 1
        for index, part in enumerate(parts):
            if part.tag == "mprescripts":
                beginning = index + 1
            elif index and part.tag not in _NOTHING:
                yield part, "_^"[(index - beginning) % 2]
    elif node.tag == "mfrac" and _NO_BAR.fullmatch(node.attributes.get("linethickness") or ""):
        yield from zip(parts, (APART, "¦"), strict=False)
    else:
        yield from zip(parts, _SIGNS.get(node.tag or "", ()), strict=False)


def _separator(node: LexborNode) -> str:
    """Return what is between the parts of an element."""
    if node.tag != "mfenced":
        return _SEPARATORS.get(node.tag or "", "")
    separators = node.attributes.get("separators")
    return "," if separators is None else separators.strip()[:1]


def _begin_fence(node: LexborNode, line: list[str], end_part: Callable[[], None] | None) -> Callable[[], None]:
    opening, closing = (node.attributes.get(name) for name in ("open", "close"))
    line.append("(" if opening is None else opening)

    def end() -> None:
        line.append(")" if closing is None else closing)
        if end_part is not None:
            end_part()

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
