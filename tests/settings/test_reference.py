"""The settings table of docs/pipeline-file.md is derived from the model. Run this file to write it anew."""

from pathlib import Path
from typing import Any

from dagster_offload.settings.leaves import LEAVES
from dagster_offload.settings.writing import one_line

PAGE = Path(__file__).parents[2] / "docs" / "pipeline-file.md"
HEAD = "| Key | Variable | Default | |\n|---|---|---|---|\n"


def table() -> str:
    rows = []
    for leaf in LEAVES:
        default = None if leaf.dotted == "home" else leaf.field.get_default(call_default_factory=True)
        cells = (f"`{leaf.dotted}`", f"`{leaf.variable}`", shown(default), str(leaf.field.description))
        rows.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(rows)


def shown(default: Any) -> str:
    return "" if default in (None, (), "") else f"`{one_line(default)}`"


def written(page: str) -> str:
    """The page with today's table, which is its last part."""
    return page[: page.index(HEAD)] + table()


def test_the_page_of_the_pipeline_file_lists_every_setting() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), f"run python {Path(__file__).name}, and commit the page"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
