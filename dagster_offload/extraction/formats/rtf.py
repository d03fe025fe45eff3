"""Read RTF: paragraphs, list labels, tables, notes at their reference, each different header and footer once.

A font's `\\fcharset` determines the encoding of its bytes.

Format specification: Microsoft's Rich Text Format Specification 1.9.1.
"""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dagster_offload.extraction.encodings.decoding import decode
from dagster_offload.extraction.formats.parts.charsets import SYMBOL, codec_of_charset
from dagster_offload.extraction.formats.parts.fields import shown_by_field
from dagster_offload.extraction.formats.parts.line_marks import marked, shown_line
from dagster_offload.extraction.formats.parts.markdown import note_text, table_text
from dagster_offload.extraction.symbol_fonts import symbol

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)
_RAW_BYTES = b"bin"  # raw bytes follow this control word; its number is their count

_CHARACTERS = {
    b"tab": "\t", b"line": "\n", b"page": "\n", b"column": "\n", b"softline": "\n", b"emdash": "—", b"endash": "–",
    b"bullet": "•", b"lquote": "‘", b"rquote": "’", b"ldblquote": "“", b"rdblquote": "”", b"emspace": " ",
    b"enspace": " ", b"qmspace": " ", b"nestcell": " ",
}  # fmt: skip
_SIGNS = {b"~": "\xa0", b"_": "-", b"\r": "\n", b"\n": "\n", b"\\": "\\", b"{": "{", b"}": "}"}
# Groups without visible text.
_SKIPPED = frozenset(
    b"""
    fonttbl colortbl stylesheet listtable listoverridetable info pict objdata objclass objname datafield
    filetbl revtbl rsidtbl generator themedata colorschememapping latentstyles datastore xmlnstbl xe tc tcn bkmkstart
    bkmkend annotation atnid atnauthor atntime atnicn atnref atndate nonesttables pnseclvl listpicture mmathPr
    panose falt fontemb fontfile footnotesep ftnsep ftnsepc aftnsep aftnsepc template private passwordhash
    wgrffmtfilter docvar shppict sp
    """.split()
)
# Groups that are marked as skippable and contain text.
_ENTERED = frozenset({b"shpinst", b"shptxt", b"footnote", b"ud", b"nesttableprops", b"pntext", b"fldinst"})
_PRIVATE = 0xF000  # where Office has the characters of symbol fonts
_HEADERS = frozenset({b"header", b"headerl", b"headerr", b"headerf"})
_FOOTERS = frozenset({b"footer", b"footerl", b"footerr", b"footerf"})


@dataclass
class _Group:
    """The state of a group. An inner group inherits it."""

    font: int = -1
    fallback: int = 1  # number of bytes to skip after a Unicode character
    is_skipped: bool = False
    is_hidden: bool = False
    is_raised: bool = False
    is_struck: bool = False
    is_instruction: bool = False  # of a field, which no font shows
    ends: Callable[[], None] | None = None


@dataclass
class _Out:
    """Collects paragraphs and tables in document order."""

    blocks: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    cell: list[str] = field(default_factory=list)
    row: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    in_table: bool = False

    def end_paragraph(self) -> None:
        text = shown_line("".join(self.line)).strip(" ")
        self.line.clear()
        if self.in_table:
            self.cell.append(text)
            return
        self.end_table()
        if text.strip():
            self.blocks.append(text)

    def end_cell(self) -> None:
        self.cell.append(shown_line("".join(self.line)).strip())
        self.line.clear()
        self.row.append("\n".join(filter(None, self.cell)))
        self.cell.clear()

    def end_row(self) -> None:
        if self.row:
            self.rows.append(list(self.row))
        self.row.clear()

    def end_table(self) -> None:
        self.end_row()
        if self.rows:
            self.blocks.append(table_text(self.rows))
            self.rows.clear()

    def text(self) -> str:
        self.in_table = False
        self.end_paragraph()
        self.end_table()
        return "\n\n".join(filter(str.strip, self.blocks))


def rtf_text(data: bytes) -> str:
    """Return the text of an RTF file. A truncated file gives the text that is there; nothing is raised."""
    reader = _Reader(data)
    reader.read()
    texts = filter(str.strip, [*dict.fromkeys(reader.headers), reader.out.text(), *dict.fromkeys(reader.footers)])
    # A character beyond 16 bits is written as two halves, such as most emoji.
    return "\n\n".join(texts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def is_whole(data: bytes) -> bool:
    """Whether the file's outermost group is closed. It is not closed in a truncated file."""
    return data.rstrip(b"\0\r\n ").endswith(b"}")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.code_page = "cp1252"
        self.fonts = _fonts(data)
        self.default_font = -1
        self.group = _Group()
        self.groups: list[_Group] = []
        self.out = _Out()
        self.headers: list[str] = []
        self.footers: list[str] = []
        self.pending = bytearray()
        self.to_skip = 0
        self.begins = False  # the next token is the first of its group
        self.may_be_skipped = False  # after a \* that begins a group
        self.is_shown = False  # the last field's instruction has given its text, so that its result is left out

    def read(self) -> None:
        offset = 0
        while (found := _TOKEN.match(self.data, offset)) is not None:
            offset = found.end()
            begins, self.begins = self.begins, False
            word, number, code, sign, brace, text = found.groups()
            if word == _RAW_BYTES:
                offset += max(0, int(number or 0))
            elif text is not None:
                self._bytes(text)
            elif code is not None:
                self._bytes(bytes((int(code, 16),)))
            elif word is not None:
                self._control(word, None if number is None else int(number))
            elif sign is not None:
                if sign == b"*":
                    self.may_be_skipped = begins
                else:
                    self._sign(sign)
            elif brace == b"{":
                self._flush()
                self.groups.append(self.group)
                self.group = replace(self.group, ends=None)
                self.begins = True
                self.to_skip = 0
            elif brace == b"}":
                self._end_group()
        while self.groups:  # of a truncated file
            self._end_group()
        self._flush()

    def _end_group(self) -> None:
        self._flush()
        if self.group.ends is not None:
            self.group.ends()
        self.group = self.groups.pop() if self.groups else _Group()
        self.to_skip = 0

    def _bytes(self, text: bytes) -> None:
        self.may_be_skipped = False
        skipped = min(self.to_skip, len(text))
        self.to_skip -= skipped
        if not self.group.is_skipped and not self.group.is_hidden:
            self.pending += text[skipped:]

    def _sign(self, sign: bytes) -> None:
        if sign in (b"\r", b"\n"):
            self._control(b"par", None)
        elif sign in _SIGNS:
            self._characters(_SIGNS[sign])

    def _characters(self, text: str) -> None:
        self._flush()
        if self.to_skip:
            self.to_skip -= 1
        elif not self.group.is_skipped and not self.group.is_hidden:
            self._add(text)

    def _add(self, text: str) -> None:
        is_struck = self.group.is_struck and not self.group.is_instruction
        self.out.line.append(marked(text, is_raised=self.group.is_raised, is_struck=is_struck))

    def _flush(self) -> None:
        """Decode the pending bytes with the encoding of their font."""
        if self.pending:
            self._add(self._decoded(bytes(self.pending)))
            self.pending.clear()

    def _font(self) -> tuple[int, str]:
        """Return the charset and the name of the font."""
        charset, name = self.fonts.get(self.group.font if self.group.font >= 0 else self.default_font, (1, ""))
        return (1, "") if charset == SYMBOL and self.group.is_instruction else (charset, name)

    def _decoded(self, data: bytes) -> str:
        charset, name = self._font()
        if charset == SYMBOL:
            return "".join(symbol(byte, name) or ("•" if byte > 0x7F else chr(byte)) for byte in data)
        try:
            return data.decode(codec_of_charset(charset) or self.code_page)
        except UnicodeDecodeError:  # the font declares the wrong charset
            decoded = decode(data)
            return data.decode(self.code_page, "replace") if decoded is None else decoded.text

    def _unicode(self, code: int) -> str:
        charset, name = self._font()
        return (symbol(code, name) if charset == SYMBOL and code >= _PRIVATE else None) or chr(code)

    def _control(self, word: bytes, number: int | None) -> None:
        self._flush()
        is_skippable, self.may_be_skipped = self.may_be_skipped, False
        if word == b"u" and number is not None:
            self._characters(self._unicode(number % 0x10000))
            self.to_skip = self.group.fallback
            return
        self.to_skip = 0
        if word in _CHARACTERS:
            self._characters(_CHARACTERS[word])
        elif word in _SKIPPED or (is_skippable and word not in _ENTERED) or word == b"upr":
            self.group.is_skipped = True
        elif word == b"ud":
            self.group.is_skipped = False
        elif not self.group.is_skipped:
            self._format(word, number)

    def _format(self, word: bytes, number: int | None) -> None:
        group, out = self.group, self.out
        match word:
            case b"f" if number is not None:
                group.font = number
            case b"plain":
                group.font, group.is_hidden, group.is_raised, group.is_struck = -1, False, False, False
            case b"super":
                group.is_raised = number != 0
            case b"sub" | b"nosupersub":
                group.is_raised = False
            case b"strike" | b"striked":
                group.is_struck = number != 0
            case b"deff" if number is not None:
                self.default_font = number
            case b"ansicpg" if number is not None:
                self.code_page = _codec_name("utf-8" if number == 65001 else f"cp{number}", self.code_page)
            case b"mac":
                self.code_page = "mac_roman"
            case b"uc" if number is not None:
                group.fallback = number
            case b"v" | b"deleted":
                group.is_hidden = number != 0
            case b"par" | b"sect":
                out.end_paragraph()
            case b"pard":
                out.in_table = False
            case b"intbl":
                out.in_table = True
            case b"cell":
                out.end_cell()
            case b"row":
                out.end_row()
            case b"footnote":
                self._collect_group(lambda text: out.line.append(f" {note_text([text])} "))
            case _ if word in _HEADERS:
                self._collect_group(lambda text: self._add_margin(self.headers, text))
            case _ if word in _FOOTERS:
                self._collect_group(lambda text: self._add_margin(self.footers, text))
            case b"shptxt":
                self._collect_group(lambda text: out.blocks.append(text))
            case b"fldinst":
                group.is_instruction = True
                self._collect_group(lambda instruction: self._field(out, instruction))
            case b"fldrslt":
                group.is_skipped, self.is_shown = self.is_shown, False

    def _field(self, out: _Out, instruction: str) -> None:
        shown = shown_by_field(instruction)
        out.line.append(shown)
        self.is_shown = bool(shown)

    def _add_margin(self, texts: list[str], text: str) -> None:
        if any(map(str.isalpha, text)):  # skip page numbers
            texts.append(text)

    def _collect_group(self, put: Callable[[str], None]) -> None:
        """Collect this group's text separately. `put` receives it when the group ends."""
        around, self.out = self.out, _Out()

        def end() -> None:
            text = self.out.text()
            self.out = around
            put(text)

        self.group.ends = end


_FONT = re.compile(
    rb"\\f(\d{1,5})(?!\d)[^;{}]{0,500}?\\fcharset(\d{1,3})"
    rb"(?:\\[a-z]{1,32}-?\d{0,10}|\{[^{}]*\}|\s)*+([^;{}\\]*)"
)


def _fonts(data: bytes) -> dict[int, tuple[int, str]]:
    """Return the charset and the name of each font by number, from the font table in the file's header."""
    start = data.find(b"\\fonttbl")
    if start < 0:
        return {}
    table = data[start : start + 200_000]
    end = min(
        (offset for mark in (b"\\colortbl", b"\\stylesheet") if (offset := table.find(mark)) > 0), default=len(table)
    )
    return {
        int(font): (int(charset), name.decode("latin-1").strip()) for font, charset, name in _FONT.findall(table[:end])
    }


def _codec_name(encoding: str, otherwise: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return otherwise
