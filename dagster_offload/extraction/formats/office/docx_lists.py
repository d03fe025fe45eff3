"""Read how the lists of a Word document (DOCX) are numbered: abstract lists, and their uses, which may change levels.

Format specification: ECMA-376 part 1, 17.9.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.list_numbers import BULLET, ListLevel, ListNumbers
from dagster_offload.extraction.formats.parts.zip_xml import attribute, int_or, local

OFF = frozenset({"0", "false", "off"})  # of a property that is on if it is there without a value
_NUMERALS = {
    "bullet": BULLET,
    "upperLetter": "upper letter", "lowerLetter": "lower letter", "upperRoman": "upper roman",
    "lowerRoman": "lower roman", "decimalZero": "two digits", "decimalEnclosedCircle": "circled",
    "ganada": "syllable", "chosung": "jamo", "koreanCounting": "korean", "koreanDigital": "korean",
    "chineseCounting": "ideograph", "japaneseCounting": "ideograph", "taiwaneseCounting": "ideograph",
}  # fmt: skip


def list_numbers(root: Element) -> ListNumbers:
    """Return the numbers of a document's lists. `root`: of the part that defines them."""
    abstract = {attribute(one, "abstractNumId") or "": one for one in _children(root, "abstractNum")}
    of_style = {name: one for one in abstract.values() if (name := _value(one, "styleLink"))}
    levels: dict[tuple[str, int], ListLevel] = {}
    shared: dict[str, str] = {}
    anew: set[tuple[str, int]] = set()
    for use in _children(root, "num"):
        name = attribute(use, "numId") or ""
        shared[name] = _value(use, "abstractNumId")
        defined = abstract.get(shared[name], Element("nothing"))
        defined = of_style.get(_value(defined, "numStyleLink"), defined)
        levels |= {(name, number): level for number, level in _levels(defined)}
        for override in _children(use, "lvlOverride"):
            levels |= {(name, number): level for number, level in _levels(override)}
            key = (name, int_or(attribute(override, "ilvl"), -1))
            start = _value(override, "startOverride")
            if start and key in levels:
                levels[key] = levels[key]._replace(start=int_or(start, 1))
                anew.add(key)
    return ListNumbers(levels, shared, anew)


def _levels(holder: Element) -> Iterator[tuple[int, ListLevel]]:
    for level in _children(holder, "lvl"):
        style = _NUMERALS.get(_value(level, "numFmt"), "")
        restart = _value(level, "lvlRestart")
        look = ListLevel(
            style,
            _value(level, "lvlText"),
            int_or(_value(level, "start"), 1),
            is_legal=is_on(level, "isLgl"),
            restarts_below=int_or(restart, None),
        )
        yield int_or(attribute(level, "ilvl"), 0), look


def is_on(holder: Element, name: str) -> bool:
    """Whether a property is there and not switched off."""
    return any(attribute(one, "val") not in OFF for one in _children(holder, name))


def _children(parent: Element, name: str) -> Iterator[Element]:
    return (child for child in parent if local(child) == name)


def _value(parent: Element, name: str) -> str:
    """Return the value of the child with this name, "" if there is none."""
    return next((attribute(child, "val") or "" for child in _children(parent, name)), "")
