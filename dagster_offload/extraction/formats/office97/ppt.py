"""Read PowerPoint presentations of 1997 to 2003 (PPT) slide by slide: titles, texts, tables, embedded objects, notes.

Those of PowerPoint 95 are read from the copy of their texts that the file holds.

office-oxide 0.1.15 loses text boxes of slides and masters, WordArt, and the pictures of embedded workbooks and charts.
Format specifications: [MS-PPT] (records, persist objects) and [MS-ODRAW] (shapes).
"""

import contextlib
import io
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import olefile

from dagster_offload.extraction import file_types
from dagster_offload.extraction.encodings.decoding import decode
from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS
from dagster_offload.extraction.formats.office97.pictures import Metafiles
from dagster_offload.extraction.formats.office97.records import Record, record_at, records
from dagster_offload.extraction.formats.office97.shapes import Shape, shapes_in
from dagster_offload.extraction.formats.parts.markdown import table_text
from dagster_offload.extraction.refusals import broken, protected

_USER_EDIT, _PERSIST_DIRECTORY = 0x0FF5, 0x1772
_DOCUMENT, _DRAWING_GROUP, _DRAWING = 0x03E8, 0x040B, 0x040C
_NOTES, _NOTES_ATOM, _SLIDE_ATOM = 0x03F0, 0x03F1, 0x03EF
_SLIDE_LIST, _SLIDE_PERSIST = 0x0FF0, 0x03F3
_SLIDES, _MASTERS, _NOTES_PAGES = 0, 1, 2  # instances of a slide list
_TEXT_HEADER, _OUTLINE_TEXT, _CHARACTERS, _BYTES = 0x0F9F, 0x0F9E, 0x0FA0, 0x0FA8
_FIELDS = frozenset({0x0FD8, 0x0FF7, 0x0FF8, 0x0FF9, 0x0FFA, 0x1015})  # page numbers, dates, headers, footers
_PLACEHOLDER, _PLACEHOLDER_OF_MASTER = 0x0BC3, 0x0420
_HEADERS_FOOTERS, _HEADERS_FOOTERS_ATOM, _STRING = 0x0FD9, 0x0FDA, 0x0FBA
_SHOWN_STRINGS = {0: 0x4, 2: 0x20}  # instances of strings, a fixed date and a footer, and the flags that show them
_TITLES = frozenset({0, 6})  # types of text
_MARGINS = frozenset({7, 8, 9, 10})  # placeholders: date, page number, footer, header
_TWO_VERSIONS = "PP97_DUALSTORAGE"  # the storage of a file for PowerPoint 95 and 97 that holds the presentation of 97
_PLAIN_TEXT = "Text_Content"  # the texts of PowerPoint 95, paragraph by paragraph
_IS_ENCRYPTED = 0xF3D1C4DF


def ppt_text(data: bytes) -> str:
    """Return the text of a presentation, then the texts of its masters and footers once. Raises `FileRefused`."""
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            if file.exists(_TWO_VERSIONS):
                return _Deck(file, f"{_TWO_VERSIONS}/").text()
            return _text_of_95(file) if file.exists(_PLAIN_TEXT) else _Deck(file).text()
    except DAMAGE_ERRORS:
        raise broken(file_types.POWERPOINT, data) from None


def _text_of_95(file: olefile.OleFileIO) -> str:
    plain = file.openstream(_PLAIN_TEXT).read().rstrip(b"\0")
    decoded = decode(plain, f"cp{file.get_metadata().codepage}")
    return "" if decoded is None else re.sub(r"\n{2,}", "\n\n", decoded.text.replace("\r", "\n"))


@dataclass
class _Text:
    """A text and its type. The types of titles are 0 and 6."""

    kind: int
    text: str = ""

    def shown(self) -> str:
        text = self.text.replace("\r", "\n").strip()
        return f"## {' '.join(text.split())}" if text and self.kind in _TITLES else text


@dataclass
class _Entry:
    """A slide in a slide list. Its placeholders refer to `outline` by index."""

    persist_id: int
    slide_id: int
    outline: list[_Text] = field(default_factory=list)


class _Deck:
    """One presentation: its document, its slide lists, and its pictures. `storage` is the folder of its streams."""

    def __init__(self, file: olefile.OleFileIO, storage: str = "") -> None:
        def stream(name: str) -> bytes:
            return bytes(file.openstream(storage + name).read()) if file.exists(storage + name) else b""

        self.stream = stream("PowerPoint Document")
        self.offsets, document_id = _persist_objects(self.stream, _current_edit(stream("Current User"), self.stream))
        document = self._object(document_id)
        if document.kind != _DOCUMENT:
            raise LookupError("no document")
        self.lists = {one.instance: list(_entries(one)) for one in document.all_of(_SLIDE_LIST)}
        self.footers = list(_footers(document))
        self.metafiles = Metafiles(document.first_of(_DRAWING_GROUP), stream("Pictures"))

    def text(self) -> str:
        return "\n\n".join(filter(str.strip, self.texts()))

    def texts(self) -> Iterator[str]:
        masters: dict[str, None] = {}
        notes = {notes_of: entry for entry in self.lists.get(_NOTES_PAGES, []) if (notes_of := self._notes_of(entry))}
        for entry in self.lists.get(_SLIDES, []):
            try:
                slide = self._object(entry.persist_id)
                self.footers += _footers(slide)
                yield from self._drawn(slide, entry.outline)
            except DAMAGE_ERRORS:  # a damaged slide does not affect the others
                yield from (text.shown() for text in entry.outline)
                continue
            with contextlib.suppress(*DAMAGE_ERRORS):
                masters |= dict.fromkeys(self._master(slide))
            if entry.slide_id in notes:
                page = notes[entry.slide_id]
                texts = list(filter(str.strip, self._drawn(self._object(page.persist_id), page.outline)))
                yield "\n".join(["Notes:", *texts]) if texts else ""
        yield from masters
        yield from dict.fromkeys(text.strip() for text in self.footers if any(map(str.isalpha, text)))

    def _object(self, persist_id: int) -> Record:
        return record_at(self.stream, self.offsets[persist_id])

    def _notes_of(self, entry: _Entry) -> int:
        """Return the id of the slide that a page of notes belongs to, 0 if it cannot be read."""
        if entry.persist_id not in self.offsets:
            return 0
        atom = self._object(entry.persist_id).first_of(_NOTES_ATOM)
        return 0 if atom is None else int(struct.unpack_from("<I", atom.data)[0])

    def _master(self, slide: Record) -> Iterator[str]:
        """Yield the texts that a slide shows from its master. Placeholders of a master are prompts, not text."""
        atom = slide.first_of(_SLIDE_ATOM)
        if atom is None:
            return
        master_id, _, flags = struct.unpack_from("<IIH", atom.data, 12)
        entry = next((one for one in self.lists.get(_MASTERS, []) if one.slide_id == master_id), None)
        if entry is not None and flags & 1 and entry.persist_id in self.offsets:
            for shape in _shapes(self._object(entry.persist_id)):
                if isinstance(shape, Shape) and not _placeholder(shape):
                    yield from self._shape(shape, [], has_pictures=False)

    def _drawn(self, holder: Record, outline: Sequence[_Text]) -> Iterator[str]:
        """Yield the texts of the shapes on a slide or on a page of notes."""
        for shape in _shapes(holder):
            if isinstance(shape, Shape):
                texts = self._shape(shape, outline)
                if _placeholder(shape) in _MARGINS:
                    self.footers += texts
                else:
                    yield from texts
            else:
                rows = [["\n".join(self._shape(cell, outline)) for cell in row] for row in shape]
                yield table_text(rows)

    def _shape(self, shape: Shape, outline: Sequence[_Text], *, has_pictures: bool = True) -> Iterator[str]:
        found = _texts(records(shape.text_box), outline)
        yield from (text.shown() for text in found)
        if not found:
            yield shape.word_art
        if has_pictures and shape.picture:
            yield self.metafiles.text(shape.picture)


def _current_edit(current: bytes, stream: bytes) -> int:
    """Return the offset of the latest edit. Raises `FileRefused` if the presentation is encrypted."""
    if len(current) >= 20:
        token, offset = struct.unpack_from("<II", current, 12)
        if token == _IS_ENCRYPTED:
            raise protected()
        if stream[offset + 2 : offset + 4] == struct.pack("<H", _USER_EDIT):
            return int(offset)
    edit = stream.rfind(struct.pack("<HHI", 0, _USER_EDIT, 28))
    if edit < 0:
        raise LookupError("no edit")
    return edit


def _persist_objects(stream: bytes, edit: int) -> tuple[dict[int, int], int]:
    """Return the offset of each persist object by its id, and the id of the document."""
    offsets: dict[int, int] = {}
    document, seen = 0, set()
    while edit and edit not in seen:
        seen.add(edit)
        before, directory, document_id = struct.unpack_from("<III", record_at(stream, edit).data, 8)
        document = document or document_id
        entries = record_at(stream, directory).data
        position = 0
        while position + 4 <= len(entries):
            (head,) = struct.unpack_from("<I", entries, position)
            first, count = head & 0xFFFFF, head >> 20
            found = struct.unpack_from(f"<{count}I", entries, position + 4)
            for index, offset in enumerate(found):
                offsets.setdefault(first + index, offset)  # later edits come first
            position += 4 + 4 * count
        edit = before
    return offsets, document


def _entries(slide_list: Record) -> Iterator[_Entry]:
    entry: _Entry | None = None
    outline: list[Record] = []
    for record in slide_list.children():
        if record.kind == _SLIDE_PERSIST:
            if entry is not None:
                entry.outline = _texts(outline, [])
                yield entry
            persist_id, _, _, slide_id = struct.unpack_from("<IIII", record.data)
            entry, outline = _Entry(persist_id, slide_id), []
        else:
            outline.append(record)
    if entry is not None:
        entry.outline = _texts(outline, [])
        yield entry


def _texts(atoms: Iterator[Record] | Sequence[Record], outline: Sequence[_Text]) -> list[_Text]:
    found: list[_Text] = []
    for atom in atoms:
        if atom.kind == _TEXT_HEADER:
            found.append(_Text(struct.unpack_from("<I", atom.data)[0]))
        elif atom.kind == _OUTLINE_TEXT:
            (index,) = struct.unpack_from("<I", atom.data)
            found += outline[index : index + 1]
        elif atom.kind in (_CHARACTERS, _BYTES) and found:
            found[-1].text = bytes(atom.data).decode("utf-16-le" if atom.kind == _CHARACTERS else "latin-1", "replace")
        elif atom.kind in _FIELDS and found:
            (position,) = struct.unpack_from("<I", atom.data)
            words = found[-1].text
            if words[position : position + 1] == "*":  # what PowerPoint replaces by the value
                found[-1].text = f"{words[:position]}\0{words[position + 1 :]}"
    for text in found:
        text.text = text.text.replace("\0", "")
    return found


def _shapes(holder: Record) -> Iterator[Shape | list[list[Shape]]]:
    drawing = holder.first_of(_DRAWING)
    return iter(()) if drawing is None else shapes_in(drawing)


def _placeholder(shape: Shape) -> int:
    """Return the number of the placeholder that the shape fills, 0 if none."""
    found = {record.kind: record.data for record in records(shape.client_data)}
    if _PLACEHOLDER_OF_MASTER in found:
        return found[_PLACEHOLDER_OF_MASTER][0]
    return found[_PLACEHOLDER][4] if _PLACEHOLDER in found else 0


def _footers(holder: Record) -> Iterator[str]:
    for container in holder.all_of(_HEADERS_FOOTERS):
        atom = container.first_of(_HEADERS_FOOTERS_ATOM)
        flags = 0 if atom is None else struct.unpack_from("<H", atom.data, 2)[0]
        for text in container.all_of(_STRING):
            if _SHOWN_STRINGS.get(text.instance, 0) & flags:
                yield bytes(text.data).decode("utf-16-le", "replace")
