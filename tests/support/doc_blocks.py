"""The code blocks of the documentation, with the marks that a comment on the line before them sets.

`<!-- not run: REASON -->`: no test runs the block. `<!-- until: TEXT -->`: its last command runs until Ctrl-C, which the test
presses when the output contains TEXT.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>not run|until): (?P<value>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One code block of a page."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None
    until: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    return blocks_in(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT)))


def blocks_in(text: str, page: str) -> list[Block]:
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=found["text"],
            not_run=found["value"] if found["mark"] == "not run" else None,
            until=found["value"] if found["mark"] == "until" else None,
        )
        for found in _BLOCK.finditer(text)
    ]


def runnable(page: Path) -> list[Block]:
    """The command blocks of a page that a test runs."""
    return [block for block in blocks_of(page) if block.language == "sh" and block.not_run is None]
