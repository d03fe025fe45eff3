"""Write a formula of an Office document on one line: (a+b)/2, x^2, √(x+1). Its signs and brackets are elements, not letters.

Format specification: ECMA-376 part 1, 22.1 (Office Math).
"""

import re
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.line_marks import APART
from dagster_offload.extraction.formats.parts.zip_xml import attribute, local

_ONE_TERM = re.compile(r"[\w.,]*|.")


def is_formula(element: Element) -> bool:
    """Whether this is a formula in a line of text."""
    return local(element) == "oMath"


def formula_text(element: Element) -> str:
    """Return a formula, or a part of one, on one line, with the marks of `raised`."""

    def all_of(name: str) -> list[str]:
        return [formula_text(child) for child in element if local(child) == name]

    def part(name: str) -> str:
        return "".join(all_of(name))

    match local(element):
        case "t":
            return element.text or ""
        case "f":
            is_binomial = _sign(element, "type", "") == "noBar"
            return fraction(part("num"), part("den"), "¦" if is_binomial else "/")
        case "sSup" | "sSub" | "sSubSup":
            return part("e") + _scripts(part("sub"), part("sup"))
        case "limLow" | "limUpp":
            return f"{part('e')}{_scripts(part('lim'), '')}"
        case "rad":
            degree = part("deg").strip()
            return f"{APART + one_term(degree) if degree else ''}√{one_term(part('e'))}{APART}"
        case "nary":
            return f"{_sign(element, 'chr', '∫')}{_scripts(part('sub'), part('sup'))} {part('e')}"
        case "d":
            inner = _sign(element, "sepChr", "|").join(all_of("e"))
            return f"{_sign(element, 'begChr', '(')}{inner}{_sign(element, 'endChr', ')')}"
        case "func":
            return f"{APART}{part('fName')} {part('e')}"
        case "m" | "eqArr":
            return "; ".join(all_of("mr") or all_of("e"))
        case "mr":
            return ", ".join(all_of("e"))
        case "del" | "moveFrom":  # tracked deletions
            return ""
        case _:
            return "".join(map(formula_text, element))


def fraction(above: str, below: str, bar: str = "/") -> str:
    """Return a fraction that stays apart from what is beside it."""
    return f"{APART}{one_term(above)}{bar}{one_term(below)}{APART}"


def one_term(text: str) -> str:
    """Return a part of a formula, in brackets if it is more than one term."""
    return text if _ONE_TERM.fullmatch(text.strip()) else f"({text})"


def _scripts(below: str, above: str) -> str:
    return (f"_{one_term(below)}" if below else "") + (f"^{one_term(above)}" if above else "") + APART


def _sign(element: Element, name: str, otherwise: str) -> str:
    """Return a sign that the properties of an element name, or the usual one."""
    named = (one for properties in element for one in properties if local(one) == name)
    found = next(named, None)
    return otherwise if found is None else attribute(found, "val") or ""
