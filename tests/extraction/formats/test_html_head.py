"""Titles, meta tags and drawings are removed from a page in one pass, even if many are not closed."""

import re
from typing import Any

import pytest

from dagster_offload.extraction.formats import html_head
from dagster_offload.extraction.formats.html_head import title_of, without_head

MANY = 300_000


@pytest.mark.parametrize(
    ("page", "kept"),
    [
        ("<head><title>A</title><meta charset='x'></head>text", "<head></head>text"),
        ("<TITLE lang=en>A</TITLE >text<BASE href=x>", "text"),
        ("a<svg width=1><path d='M0'/></svg>b<svg/>c", "ab<svg/>c"),
        ("<titles>kept</titles><metadata>kept</metadata>", "<titles>kept</titles><metadata>kept</metadata>"),
        ("<title>never closed <meta name=x> text", "<title>never closed  text"),
        ("no tag at all", "no tag at all"),
        ("", ""),
    ],
)
def test_titles_meta_tags_and_drawings_are_removed(page: str, kept: str) -> None:
    assert without_head(page) == kept


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<meta name=x><title lang='en'>A page</title>", "A page"),
        ("<Title>Two\nlines</TITLE  >", "Two\nlines"),
        ("<title>never closed", None),
        ("<p>none</p>", None),
    ],
)
def test_the_title_is_the_first_one(page: str, title: str | None) -> None:
    assert title_of(page) == title


class Counted(str):
    """A page that counts the characters that searches visit."""

    work = 0

    def find(self, *arguments: Any) -> int:
        found = super().find(*arguments)
        Counted.work += (len(self) if found < 0 else found) - arguments[1]
        return found


class CountedPattern:
    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern = pattern

    def search(self, page: str, begin: int) -> re.Match[str] | None:
        found = self.pattern.search(page, begin)
        Counted.work += (len(page) if found is None else found.end()) - begin
        return found


@pytest.mark.parametrize(
    "repeated",
    [
        "<title",
        "<title>",
        "<meta ",
        "<base ",
        "<svg>",
        "<svg",
        "<svg><title>",
        "<title></title",
        "<svg></svg>",
        "<meta>",
    ],
)
def test_repeated_tags_are_processed_in_linear_time(monkeypatch: pytest.MonkeyPatch, repeated: str) -> None:
    counted = {name: CountedPattern(pattern) for name, pattern in html_head._CLOSINGS.items()}
    monkeypatch.setattr(html_head, "_CLOSINGS", counted)
    monkeypatch.setattr(html_head, "_OPENINGS", CountedPattern(html_head._OPENINGS))
    monkeypatch.setattr(Counted, "work", 0)
    page = Counted(repeated * MANY)
    without_head(page)
    assert 0 < Counted.work < 5 * len(page)
