"""Every code block of the documentation names its language, and every command block is run or says why not."""

from pathlib import Path

import pytest

from tests.docs.test_commands import SETUPS
from tests.support.doc_blocks import PAGES, ROOT, Block, blocks_in, blocks_of, runnable

LANGUAGES = {"sh", "text", "yaml", "json", "python", "caddyfile", "toml"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_code_block_names_its_language(page: Path) -> None:
    assert [block.place for block in blocks_of(page) if block.language not in LANGUAGES] == []
    assert len(blocks_of(page)) * 2 == sum(line.startswith("```") for line in page.read_text().splitlines())


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_block_is_run_or_says_why_not(page: Path) -> None:
    if runnable(page):
        assert name(page) in SETUPS, "add the page to tests/docs/test_commands.py, or mark its blocks as not run"


def test_no_page_is_prepared_for_nothing() -> None:
    assert [page for page in SETUPS if not runnable(ROOT / page)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_blocks_are_python(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python":
            compile(block.text, block.place, "exec")


def test_marks_are_read_from_the_line_before_a_block() -> None:
    text = "a\n\n<!-- not run: needs a Mac -->\n```sh\nmlx\n```\n\n<!-- until: ready -->\n```sh\nup\n```\n```text\nx\n```\n"
    assert blocks_in(text, "p.md") == [
        Block("p.md", 3, "sh", "mlx\n", "needs a Mac", None),
        Block("p.md", 8, "sh", "up\n", None, "ready"),
        Block("p.md", 12, "text", "x\n", None, None),
    ]
