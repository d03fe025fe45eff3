"""Draws what a terminal showed, line by line, as an animated SVG: it plays in a browser, and its text stays sharp.

A viewer that asks for no motion shows the end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROW, CELL, PADDING = 19.0, 8.4, 16.0  # in pixels, for a font of 14 pixels
LAST_SECONDS = 6.0  # the end stays for this long
LONGEST_PAUSE_SECONDS = 1.5  # longer pauses between two lines are shortened to this
FONT = "font: 14px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre"
NORMAL = Style()


@dataclass(frozen=True)
class Line:
    """One line of output with its escape sequences, and the second in which it was complete."""

    at: float
    text: str


@dataclass(frozen=True)
class _Row:
    at: float
    text: Text


def animated(lines: Sequence[Line], columns: int, rows: int) -> str:
    """The drawing: `rows` rows of `columns` cells, in which the lines appear one after another and scroll up."""
    shown = [_Row(line.at, part) for line in _paced(lines) for part in _folded(Text.from_ansi(line.text), columns)]
    width, height = columns * CELL, rows * ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 2 * PADDING:.0f}" height="{height + 2 * PADDING:.0f}"'
            f' viewBox="0 0 {width + 2 * PADDING:.0f} {height + 2 * PADDING:.0f}">',
            f"<style>{_style(shown, rows)}</style>",
            f'<rect width="100%" height="100%" rx="8" fill="{MONOKAI.background_color.hex}"/>',
            f'<svg x="{PADDING:.0f}" y="{PADDING:.0f}" width="{width:.0f}" height="{height:.0f}"><g class="all">',
            *(f'<g class="r{number}">{"".join(_texts(number, row.text))}</g>' for number, row in enumerate(shown)),
            "</g></svg>",
            "</svg>\n",
        ]
    )


def _paced(lines: Sequence[Line]) -> Iterator[Line]:
    at, before = 0.5, lines[0].at
    for line in lines:
        at += min(line.at - before, LONGEST_PAUSE_SECONDS)
        before = line.at
        yield Line(at, line.text)


def _folded(text: Text, columns: int) -> list[Text]:
    """The rows of one line: a terminal breaks it after its last column, in the middle of a word too."""
    breaks, cells = [], 0
    for place, letter in enumerate(text.plain):
        cells += cell_len(letter)
        if cells > columns:
            breaks.append(place)
            cells = cell_len(letter)
    return list(text.divide(breaks))


def _style(shown: Sequence[_Row], rows: int) -> str:
    """The rows appear at their times, and all of them move up when the screen is full."""
    seconds = shown[-1].at + LAST_SECONDS
    last = max(0, len(shown) - rows)
    appear = [
        f".r{number}{{animation-name:r{number}}}@keyframes r{number}{{0%{{opacity:0}}{_percent(row.at, seconds)}{{opacity:1}}}}"
        for number, row in enumerate(shown)
    ]
    steps = [
        f"{_percent(row.at, seconds)}{{transform:translateY({-ROW * (number + 1 - rows):.0f}px)}}"
        for number, row in enumerate(shown)
        if number >= rows
    ]
    up = f"transform:translateY({-ROW * last:.0f}px)"
    return (
        f"text{{{FONT}}}"
        f".all{{{up};animation-name:all}}@keyframes all{{0%{{transform:none}}{''.join(steps)}100%{{{up}}}}}"
        f"g{{animation:{seconds:.1f}s step-end infinite}}{''.join(appear)}"
        "@media (prefers-reduced-motion:reduce){g{animation:none!important}}"
    )


def _percent(at: float, seconds: float) -> str:
    return f"{100 * at / seconds:.2f}%"


def _texts(number: int, row: Text) -> Iterator[str]:
    """One element for each style of the row, and for each run of wide letters, such as Korean ones.

    Each takes its cells, whatever the width of a letter in the viewer's font is.
    """
    cells = 0
    for segment in row.render(Console(width=10_000, color_system="truecolor"), end=""):
        style = segment.style or NORMAL
        colour = MONOKAI.foreground_color if style.color is None else style.color.get_truecolor(MONOKAI)
        weight = ' font-weight="bold"' if style.bold else ""
        for wide, letters in groupby(segment.text, key=cell_len):
            text = "".join(letters)
            if text.strip():
                yield (
                    f'<text x="{cells * CELL:.1f}" y="{number * ROW + 14:.0f}" textLength="{wide * len(text) * CELL:.1f}" '
                    f'fill="{colour.hex}"{weight}>{escape(text)}</text>'
                )
            cells += wide * len(text)
