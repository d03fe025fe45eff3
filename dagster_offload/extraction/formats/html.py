"""Read HTML pages and HTML parts of mails: headings, lists, tables and form values, without links and hidden elements.

selectolax parses a page like a browser. This module walks through the tree without recursion, because a page may nest
its elements 100,000 deep.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from dagster_offload.extraction.encodings.decoding import declared_encoding, decode
from dagster_offload.extraction.formats.html_lists import NumberedList, numbered_list, whole_number
from dagster_offload.extraction.formats.html_math import Formulas
from dagster_offload.extraction.formats.parts.line_marks import (
    RAISED_BEGINS,
    RAISED_ENDS,
    STRUCK_ENDS,
    shown_line,
    struck,
)
from dagster_offload.extraction.formats.parts.markdown import table_text
from dagster_offload.extraction.symbol_fonts import is_symbol_font, symbol_of_western

_SKIPPED = frozenset(
    """
    head script style template noscript svg iframe object embed audio video canvas datalist rp option annotation annotation-xml
    """.split()  # noqa: SIM905 - a list of quoted words is no easier to read
)
# The line ends before and after a block: two for paragraphs, one for lines.
_PARAGRAPHS = frozenset("p h1 h2 h3 h4 h5 h6 table ul ol dl pre blockquote hr section article figure".split())  # noqa: SIM905
_LINES = frozenset(
    """
    div li dt dd tr address aside body center details summary dialog fieldset legend figcaption footer form header hgroup
    html main nav search caption thead tbody tfoot optgroup
    """.split()  # noqa: SIM905
)
_WITHOUT_CONTENT = frozenset({"br", "input", "select", "img"})
# In XHTML every element may be closed at once (`<title/>`). HTML ignores this slash, and the title would not end.
_XHTML = re.compile(r"""<\?xml\b|<html\b[^<>]*xmlns\s*=\s*["']http://www\.w3\.org/1999/xhtml""", re.IGNORECASE)
_SELF_CLOSED = re.compile(
    r"<(?!(?:area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr)\b)([A-Za-z][\w:-]*+)([^<>]*)/>",
    re.IGNORECASE,
)
_MAX_INDENT = 20  # levels
_MAX_SPAN = 100
_HEADING = re.compile("h[1-6]")
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_STRUCK_TAGS = frozenset({"del", "s", "strike"})
_STRUCK = re.compile(r"text-decoration(?:-line)?\s*:[^;]{0,100}line-through", re.IGNORECASE)
_INVISIBLE = re.compile(r"visibility\s*:\s*hidden", re.IGNORECASE)
_FONT = re.compile(r"(?:^|;)\s*font(?:-family\s*:|\s*:[^;,]{0,100}?\d(?:pt|px|em|%))\s*([^;]+)", re.IGNORECASE)
_BLANK_ENDS = (" ", "\n", f" {STRUCK_ENDS}")
_BLANKS = re.compile(r"[ \t\n\r\f\v]+")
_CHECKED_INPUTS = frozenset({"checkbox", "radio"})
_INPUTS_WITHOUT_TEXT = frozenset({"hidden", "password", "image", "file", "submit", "reset", "button", "color", "range"})


def html_text(page: str) -> str:
    """Return the page's text, with tables as Markdown."""
    return html_text_and_title(page)[0]


def html_text_and_title(page: str) -> tuple[str, str]:
    """Return the page's text, with tables as Markdown, and its title, "" if it has none. Raises `MemoryError`."""
    try:
        tree = LexborHTMLParser(_SELF_CLOSED.sub(r"<\1\2></\1>", page) if _XHTML.search(page, 0, 2000) else page)
    except SelectolaxError:  # every text is valid HTML, so only the memory can be missing
        raise MemoryError from None
    title = tree.css_first("head > title")
    root = tree.root
    text = "" if root is None else _Page().read(root)
    return text, "" if title is None else title.text()


def html_bytes_text(page: bytes) -> str:
    """Like `html_text`, for a page that is not decoded yet; "" if its encoding cannot be recognized."""
    decoded = decode(page, declared_encoding(page))
    return "" if decoded is None else html_text(decoded.text)


@dataclass
class _Out:
    """The text of a page or of a table's cell: what is written, and the line that is being written."""

    written: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    gap: int = 0  # line ends before the next line
    mark: str = ""  # of the next line: a heading or a list item
    indent: str = ""

    def end_line(self, gap: int) -> None:
        text = shown_line("".join(self.line)).strip(" \n")
        self.line = []
        if text:
            self.add(text)
        self.gap = max(self.gap, gap)

    def add(self, text: str) -> None:
        if self.written:
            self.written.append("\n" * max(1, self.gap))
        lines = f"{self.mark}{text}".split("\n")
        self.written.append("\n".join(f"{self.indent}{line}" if line else "" for line in lines))
        self.gap, self.mark = 0, ""

    def text(self) -> str:
        self.end_line(0)
        return "".join(self.written)


@dataclass
class _Table:
    rows: list[list[str]] = field(default_factory=list)
    has_inner_table: bool = False
    begun: set[int] = field(default_factory=set)  # the columns in which a cell begins
    covered: dict[int, int] = field(default_factory=dict)  # by column: the first row that no cell above it covers

    def add(self, text: str, columns: int, rows: int) -> None:
        """Add a cell to the last row, after the columns that cells of earlier rows cover."""
        if not self.rows:
            self.rows.append([])
        number, row = len(self.rows) - 1, self.rows[-1]
        while self.covered.get(len(row), 0) > number:
            row.append("")
        self.begun.add(len(row))
        if rows > 1:
            self.covered.update(dict.fromkeys(range(len(row), len(row) + columns), number + rows))
        row += [text, *[""] * (columns - 1)]

    def texts(self) -> list[list[str]]:
        """Return the rows without the columns in which no cell begins."""
        return [[cell for column, cell in enumerate(row) if column in self.begun] for row in self.rows]


class _Page:
    """Walks through a page and writes its text."""

    def __init__(self) -> None:
        self.out = _Out()
        self.outer: list[_Out] = []  # the text around each open cell
        self.tables: list[_Table] = []
        self.lists: list[NumberedList | None] = []  # the open lists, None for one without numbers
        self.fonts = [""]  # of symbols, of the open elements that name a font
        self.preformatted = 0
        self.struck = 0
        self.formulas = Formulas()

    def read(self, root: LexborNode) -> str:
        to_do: list[LexborNode | Callable[[], None]] = [root]
        while to_do:
            step = to_do.pop()
            if not isinstance(step, LexborNode):
                step()
            elif step.tag == "-text":
                self._text(step.text_content or "")
            elif _is_shown(step):
                if (font := _font(step)) is not None:
                    self.fonts.append(font)
                    to_do.append(self._end_font)
                if _is_struck(step):
                    self.struck += 1
                    to_do.append(self._end_struck)
                if (end := self.formulas.begin(step, self.out.line)) is not None:
                    to_do.append(end)
                to_do.append(self._begin(step))
                inner = list(step.iter(include_text=True)) if step.tag not in _WITHOUT_CONTENT else []
                to_do.extend(inner if step.tag == "mroot" else reversed(inner))
        return self.out.text()

    def _text(self, text: str) -> None:
        if self.fonts[-1]:
            text = "".join(symbol_of_western(character, self.fonts[-1]) for character in text)
        if self.formulas.are_open:
            self.out.line.append(text.strip())
        elif self.preformatted:
            self.out.line.append(struck(text) if self.struck else text)
        elif text := _BLANKS.sub(" ", text):
            is_after_blank = not self.out.line or self.out.line[-1].endswith(_BLANK_ENDS)
            text = text[1:] if is_after_blank and text[0] == " " else text
            self.out.line.append(struck(text) if self.struck else text)

    def _begin(self, node: LexborNode) -> Callable[[], None]:
        """Write what comes before an element's content. Returns what to do after its content."""
        tag = node.tag or ""
        gap = 2 if tag in _PARAGRAPHS else 1 if tag in _LINES else 0
        if gap:
            self.out.end_line(1 if self.lists and tag in ("ul", "ol") else gap)
        match tag:
            case "ul" | "ol":
                return self._begin_list(node)
            case "li":
                return self._begin_item(node)
            case "table":
                return self._begin_table()
            case "td" | "th" if self.tables:
                return self._begin_cell(_span(node, "colspan"), _span(node, "rowspan"))
            case "tr" if self.tables:
                self.tables[-1].rows.append([])
            case "pre" | "textarea":
                self.preformatted += 1
                return self._end_preformatted
            case "sup":
                self.out.line.append(RAISED_BEGINS)
                return self._end_raised
            case "br":
                self.out.line.append("\n")
            case "input" | "select" | "img":
                self.out.line.append(_value(node))
            case _ if _HEADING.fullmatch(tag):
                self.out.mark = "#" * int(tag[1]) + " "
                return self._end_heading
        return lambda: self.out.end_line(gap) if gap else None

    def _end_heading(self) -> None:
        self.out.line = [" ".join("".join(self.out.line).split())]
        self.out.end_line(2)
        self.out.mark = ""

    def _end_font(self) -> None:
        self.fonts.pop()

    def _end_struck(self) -> None:
        self.struck -= 1

    def _end_raised(self) -> None:
        self.out.line.append(RAISED_ENDS)

    def _end_preformatted(self) -> None:
        self.preformatted -= 1
        self.out.end_line(2)

    def _begin_list(self, node: LexborNode) -> Callable[[], None]:
        self.lists.append(numbered_list(node) if node.tag == "ol" else None)

        def end() -> None:
            self.lists.pop()
            self.out.end_line(1 if self.lists else 2)

        return end

    def _begin_item(self, node: LexborNode) -> Callable[[], None]:
        around = self.lists[-1] if self.lists else None
        before = self.out.indent
        self.out.indent = "  " * min(max(0, len(self.lists) - 1), _MAX_INDENT)
        self.out.mark = "- " if around is None else around.next(whole_number(node, "value"))

        def end() -> None:
            self.out.end_line(1)
            self.out.indent, self.out.mark = before, ""

        return end

    def _begin_table(self) -> Callable[[], None]:
        for table in self.tables[-1:]:
            table.has_inner_table = True
        self.tables.append(_Table())

        def end() -> None:
            self.out.end_line(2)
            table = self.tables.pop()
            rows = table.texts()
            cells = [cell for row in rows for cell in row if cell.strip()]
            # A table with tables in its cells, or with one column, arranges the page.
            is_layout = table.has_inner_table or all(len(row) <= 1 for row in rows)
            for block in cells if is_layout else [table_text(rows)]:
                if block.strip():
                    self.out.add(block)
                    self.out.gap = 2

        return end

    def _begin_cell(self, columns: int, rows: int) -> Callable[[], None]:
        around, self.out = self.out, _Out()

        def end() -> None:
            text = self.out.text()
            self.out = around
            self.tables[-1].add(text, columns, rows)

        return end


def _is_shown(node: LexborNode) -> bool:
    tag = node.tag or ""
    if tag in _SKIPPED or not tag[:1].isalpha():
        return False
    attributes = node.attributes
    if tag == "dialog" and "open" not in attributes:
        return False
    style = attributes.get("style") or ""
    return "hidden" not in attributes and not _HIDDEN.search(style) and not _is_invisible(tag, style)


def _is_struck(node: LexborNode) -> bool:
    """Whether the text of an element is struck out."""
    return node.tag in _STRUCK_TAGS or _STRUCK.search(node.attributes.get("style") or "") is not None


def _is_invisible(tag: str, style: str) -> bool:
    """Whether an element only takes up room. A page, and what an animation reveals, become visible while a person reads."""
    return tag != "body" and _INVISIBLE.search(style) is not None and "animation" not in style.lower()


def _font(node: LexborNode) -> str | None:
    """Return the font of symbols that the element names, "" if it names another one, None if it names none."""
    attributes = node.attributes
    found = _FONT.search(attributes.get("style") or "")
    named = found[1] if found else attributes.get("face") if node.tag == "font" else None
    if named is None:
        return None
    first = named.partition(",")[0].strip(" \t\n\"'")
    return first if is_symbol_font(first) else ""


def _span(node: LexborNode, name: str) -> int:
    """Return over how many columns or rows a cell extends, at most 100."""
    return min(max(1, whole_number(node, name) or 1), _MAX_SPAN)


def _value(node: LexborNode) -> str:
    """Return what a form field or a picture shows as words."""
    attributes = node.attributes
    if node.tag == "img":
        return attributes.get("alt") or ""
    if node.tag == "select":
        options = node.css("option")
        is_list = (
            "multiple" in attributes or (whole_number(node, "size") or 0) > 1
        )  # which shows that nothing is chosen
        chosen = [option for option in options if "selected" in option.attributes] or options[: not is_list]
        return ", ".join(option.text(strip=True) for option in chosen)
    kind = (attributes.get("type") or "text").lower()
    if kind in _CHECKED_INPUTS:
        return f"[{'x' if 'checked' in attributes else ' '}] "
    return "" if kind in _INPUTS_WITHOUT_TEXT else attributes.get("value") or ""
