"""Find the list numbers of a Word document (97 to 2003) and put them before their paragraphs.

office-oxide reads the paragraphs without them. This module reads the paragraphs' properties, counts the lists, and finds
each numbered paragraph in the text again. A paragraph that it does not find stays without its number.

Format specification: [MS-DOC].
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import olefile

from dagster_offload.extraction.formats.office97.word_records import pieces, properties_in, table_of
from dagster_offload.extraction.formats.parts.list_numbers import BULLET, ListLevel, ListNumbers

# Where the header has the place and the length of: styles, pages of paragraph properties, lists, uses of lists.
_STYLES, _PAGES, _LISTS, _USES = 0x00A2, 0x0102, 0x02E2, 0x02EA
_PAGE = 512
_LEVEL, _LIST = 0x260A, 0x460B  # the properties of a paragraph that we need
_PARAGRAPH_STYLE = 1
_MAX_STYLE_DEPTH = 20
_LIST_BYTES, _USE_BYTES, _LEVELS = 28, 16, 9
_SIMPLE_LIST, _STARTS_ANEW, _HAS_LEVEL = 1, 0x10, 0x20
_IS_LEGAL, _RESTARTS_LESS = 4, 8  # flags of a level
_STYLES_OF_NUMBERS = {
    1: "upper roman", 2: "lower roman", 3: "upper letter", 4: "lower letter", 10: "ideograph", 11: "ideograph",
    18: "circled", 22: "two digits", 23: BULLET, 24: "syllable", 25: "jamo", 33: "ideograph", 37: "ideograph", 39: "ideograph",
    41: "korean", 42: "korean",
}  # fmt: skip
_NO_NUMBER = 255
_PARAGRAPH = re.compile("[^\r\x07\x0c]*[\r\x07\x0c]")
_FIELD_CODE = re.compile("\x13[^\x13\x14\x15]*\x14?")
_NO_LETTER = re.compile(r"</?su[bp]>|[\W_]+")  # the tags are those of office-oxide
_AHEAD = 100  # lines in which a paragraph is looked for
_MARK = re.compile(r"( *)(#{1,6} )?(\d+\. |[-*] )?")

Levels = dict[tuple[str, int], ListLevel]


@dataclass(frozen=True)
class _Numbering:
    """The list and the level of a paragraph or a style. None: not said."""

    use: int | None = None  # from 1; 0 = no list
    level: int | None = None

    def over(self, base: "_Numbering") -> "_Numbering":
        return _Numbering(base.use if self.use is None else self.use, base.level if self.level is None else self.level)


def with_list_numbers(text: str, file: olefile.OleFileIO, document: bytes) -> str:
    """Return the text with its list numbers. `document` is the main stream of the file. Raises errors of damage."""
    table = table_of(file, document)
    return text if table is None else _placed(text, _labelled(document, table))


def _placed(text: str, paragraphs: Iterator[tuple[str, str]]) -> str:
    """Put each label before the line that has its paragraph's letters, in place of the number that office-oxide guesses."""
    lines = text.split("\n")
    marks = [_MARK.match(line) for line in lines]
    keys = [(_key(line), _key(line[mark.end() :] if mark else line)) for line, mark in zip(lines, marks, strict=True)]
    place = 0
    for label, paragraph in paragraphs:
        key = _key(paragraph)
        found = next((at for at in range(place, min(place + _AHEAD, len(keys))) if key in keys[at]), None)
        if not key or found is None:
            continue
        place = found + 1
        mark = marks[found]
        if label and mark is not None:
            indent, heading, guess = mark.groups(default="")
            own = guess if guess and paragraph.startswith(guess) else ""  # typed by the writer
            lines[found] = f"{indent}{heading}{label}{own}{lines[found][mark.end() :]}"
    return "\n".join(lines)


def _key(text: str) -> str:
    return _NO_LETTER.sub("", text)


def _labelled(document: bytes, table: bytes) -> Iterator[tuple[str, str]]:
    """Yield the label ("" for none) and the text of each paragraph, in document order. Nothing if there are no lists."""
    uses = _uses(document, table)
    if not uses.levels:
        return
    numbers = ListNumbers(uses.levels, uses.shared, uses.anew)
    properties = _Properties(document, table)
    for text, end in _paragraphs(document, table):
        numbering = properties.numbering_at(end)
        label = numbers.next(str(numbering.use or 0), numbering.level or 0)
        yield label, _FIELD_CODE.sub("", text)


def _paragraphs(document: bytes, table: bytes) -> Iterator[tuple[str, int]]:
    """Yield the text of each paragraph, and where its last character is in `document`."""
    unfinished = ""
    for offset, characters, is_bytes in pieces(document, table):
        width = 1 if is_bytes else 2
        data = document[offset : offset + characters * width]
        piece = data.decode("cp1252" if is_bytes else "utf-16-le", "replace")
        end = 0
        for found in _PARAGRAPH.finditer(piece):
            end = found.end()
            yield unfinished + found[0][:-1], offset + (end - 1) * width
            unfinished = ""
        unfinished += piece[end:]


class _Properties:
    """The numbering of paragraphs, from their own properties and their styles."""

    def __init__(self, document: bytes, table: bytes) -> None:
        self._document = document
        self._styles = _styles(document, table)
        start, size = struct.unpack_from("<II", document, _PAGES)
        count = (size - 4) // 8
        self._borders = struct.unpack_from(f"<{count + 1}I", table, start)
        self._pages = struct.unpack_from(f"<{count}I", table, start + 4 * (count + 1))

    def numbering_at(self, place: int) -> _Numbering:
        """Return the numbering of the paragraph that ends at this place of the document's stream."""
        number = bisect_right(self._borders, place) - 1
        if not 0 <= number < len(self._pages):
            return _Numbering()
        return self._on_page(_PAGE * (self._pages[number] & 0x3FFFFF), place)

    def _on_page(self, page: int, place: int) -> _Numbering:
        count = self._document[page + _PAGE - 1]
        borders = struct.unpack_from(f"<{count + 1}I", self._document, page)
        number = next((at for at in range(count) if borders[at] <= place < borders[at + 1]), None)
        if number is None:
            return _Numbering()
        offset = 2 * self._document[page + 4 * (count + 1) + 13 * number]
        if not offset:
            return self._style(0)
        start = page + offset
        size = 2 * self._document[start] - 1
        if size < 0:
            start += 1
            size = 2 * self._document[start]
        (style,) = struct.unpack_from("<H", self._document, start + 1)
        return _numbering_in(self._document[start + 3 : start + 1 + size]).over(self._style(style))

    def _style(self, number: int) -> _Numbering:
        numbering = _Numbering()
        for _ in range(_MAX_STYLE_DEPTH):
            if number not in self._styles:
                break
            own, number = self._styles[number]
            numbering = numbering.over(own)
        return numbering


def _styles(document: bytes, table: bytes) -> Mapping[int, tuple[_Numbering, int]]:
    """Return the numbering of each paragraph style, and the style that it is based on."""
    start, size = struct.unpack_from("<II", document, _STYLES)
    header, count, base_bytes = struct.unpack_from("<HHH", table, start)
    place, found = start + 2 + header, dict[int, tuple[_Numbering, int]]()
    for number in range(count):
        if place + 2 > start + size:
            break
        (length,) = struct.unpack_from("<H", table, place)
        style = table[place + 2 : place + 2 + length]
        place += 2 + length
        if length <= base_bytes:
            continue
        kind_and_base = struct.unpack_from("<H", style, 2)[0]
        if kind_and_base & 0xF != _PARAGRAPH_STYLE:
            continue
        properties = base_bytes + 2 + 2 * struct.unpack_from("<H", style, base_bytes)[0] + 2
        properties += properties % 2
        (length,) = struct.unpack_from("<H", style, properties)
        found[number] = _numbering_in(style[properties + 4 : properties + 2 + length]), kind_and_base >> 4
    return found


def _numbering_in(properties: bytes) -> _Numbering:
    use = level = None
    for kind, operand in properties_in(properties):
        if kind == _LEVEL:
            level = operand[0]
        elif kind == _LIST and len(operand) == 2:
            use = max(0, struct.unpack("<h", operand)[0])
    return _Numbering(use, level)


@dataclass
class _Uses:
    """The uses of lists, as `ListNumbers` takes them. Their names are their numbers, from 1. All uses of a list count on."""

    levels: Levels = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    anew: set[tuple[str, int]] = field(default_factory=set)


def _uses(document: bytes, table: bytes) -> _Uses:
    lists, (start, size) = _lists(document, table), struct.unpack_from("<II", document, _USES)
    uses = _Uses()
    if not lists or not size:
        return uses
    (count,) = struct.unpack_from("<I", table, start)
    changes = start + 4 + _USE_BYTES * count
    for number in range(min(count, size // _USE_BYTES)):
        one = start + 4 + _USE_BYTES * number
        (identifier,) = struct.unpack_from("<i", table, one)
        name = str(number + 1)
        uses.shared[name] = str(identifier)
        own = dict(enumerate(lists.get(identifier, ())))
        changes += 4
        for _ in range(table[one + 12]):
            begin, flags = struct.unpack_from("<iI", table, changes)
            changes += 8
            level = flags & 0xF
            if flags & _HAS_LEVEL:
                own[level], changes = _level(table, changes)
            elif flags & _STARTS_ANEW and level in own:
                own[level] = own[level]._replace(start=begin)
            if flags & _STARTS_ANEW:
                uses.anew.add((name, level))
        uses.levels |= {(name, level): how for level, how in own.items()}
    return uses


def _lists(document: bytes, table: bytes) -> dict[int, list[ListLevel]]:
    start, size = struct.unpack_from("<II", document, _LISTS)
    if not size:
        return {}
    (count,) = struct.unpack_from("<H", table, start)
    found, place = dict[int, list[ListLevel]](), start + size  # the levels follow
    for number in range(count):
        one = start + 2 + _LIST_BYTES * number
        (name,) = struct.unpack_from("<i", table, one)
        found[name] = []
        for _ in range(1 if table[one + 26] & _SIMPLE_LIST else _LEVELS):
            level, place = _level(table, place)
            found[name].append(level)
    return found


def _level(table: bytes, place: int) -> tuple[ListLevel, int]:
    """Return the level at this place, and where the next one begins."""
    start, style, flags = struct.unpack_from("<iBB", table, place)
    restarts_below = table[place + 26] if flags & _RESTARTS_LESS else None
    place += 28 + table[place + 24] + table[place + 25]
    (length,) = struct.unpack_from("<H", table, place)
    text = table[place + 2 : place + 2 + 2 * length].decode("utf-16-le", "replace")
    shown = "".join(f"%{ord(sign) + 1}" if ord(sign) < _LEVELS else sign for sign in islice(text, 100))
    name = _STYLES_OF_NUMBERS.get(style, "")
    label = "" if style == _NO_NUMBER else shown
    level = ListLevel(name, label, start, is_legal=bool(flags & _IS_LEGAL), restarts_below=restarts_below)
    return level, place + 2 + 2 * length
