"""The animated drawing of a terminal."""

import re
from xml.etree import ElementTree

from tools.terminal_svg import CELL, ROW, Line, animated

COLUMNS, ROWS = 20, 3


def texts(drawing: str) -> list[tuple[str, float, float]]:
    """Each text of the drawing with its row and its first cell."""
    found = ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 - our own drawing
    return [(each.text or "", float(each.attrib["y"]) // ROW, float(each.attrib["x"]) / CELL) for each in found]


def test_a_line_that_is_too_long_goes_on_in_the_next_row() -> None:
    drawing = animated([Line(0, "x" * 25), Line(1, "y")], COLUMNS, ROWS)
    assert texts(drawing) == [("x" * 20, 0, 0), ("x" * 5, 1, 0), ("y", 2, 0)]


def test_what_a_program_printed_is_text_with_its_colour() -> None:
    drawing = animated([Line(0, "\x1b[31m<b>&\x1b[0m ok")], COLUMNS, ROWS)
    assert [text for text, _, _ in texts(drawing)] == ["<b>&", " ok"]
    assert len(set(re.findall(r'fill="(#\w+)">', drawing))) == 2


def test_wide_letters_take_two_cells() -> None:
    drawing = animated([Line(0, "서울 ok")], COLUMNS, ROWS)
    assert texts(drawing) == [("서울", 0, 0), (" ok", 0, 4)]


def test_lines_appear_in_their_order_and_long_pauses_are_shortened() -> None:
    drawing = animated([Line(0, "a"), Line(1, "b"), Line(1000, "c")], COLUMNS, ROWS)
    times = [float(time) for time in re.findall(r"opacity:0\}([\d.]+)%", drawing)]
    assert times == sorted(times)
    [seconds] = re.findall(r"animation:([\d.]+)s", drawing)
    assert float(seconds) < 20


def test_a_full_screen_scrolls_to_its_last_rows() -> None:
    drawing = animated([Line(at, str(at)) for at in range(ROWS + 2)], COLUMNS, ROWS)
    assert f".all{{transform:translateY({-2 * ROW:.0f}px)" in drawing
