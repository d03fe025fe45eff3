"""Every relative link in the documentation leads to a file, every anchor to a heading, and every named test exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "fixtures" / "formats" / "README.md",
]
LINKS = re.compile(r"\]\(([^)\s]+)\)")
CODE_BLOCKS = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADINGS = re.compile(r"^#+ (.+)$", re.MULTILINE)
# A path in backticks that names a file of this repository or of its package.
NAMED_FILES = re.compile(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|sql|md|toml))`")
# A link whose text is the name of a test.
NAMED_TESTS = re.compile(r"\[`(test_\w+)`\]\(([^)#]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_exist(page: Path) -> None:
    text = CODE_BLOCKS.sub("", page.read_text(encoding="utf-8"))
    broken_links = [link for link in LINKS.findall(text) if ":" not in link and not leads_somewhere(page, link)]
    roots = (ROOT, ROOT / "dagster_offload", page.parent)
    missing_files = [name for name in NAMED_FILES.findall(text) if not any((root / name).exists() for root in roots)]
    assert (broken_links, missing_files) == ([], [])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_tests_exist(page: Path) -> None:
    named = NAMED_TESTS.findall(page.read_text(encoding="utf-8"))
    missing = [name for name, file in named if f"def {name}(" not in (page.parent / file).read_text(encoding="utf-8")]
    assert missing == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> Iterator[str]:
    """The anchors that GitHub makes from the headings of a page."""
    for heading in HEADINGS.findall(page.read_text(encoding="utf-8")):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
