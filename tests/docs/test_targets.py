"""Pages name only what exists: targets of the Makefile, and messages and reasons that the code can show."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.doc_blocks import PAGES, ROOT

TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
NAMED = re.compile(r"(?:`|^)make ((?:[a-z-]+ ?)+)", re.MULTILINE)
CODE = "\n".join(
    file.read_text(encoding="utf-8")
    for ending in ("*.py", "*.sql")
    for file in sorted((ROOT / "dagster_offload").rglob(ending))
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_make_targets_exist(page: Path) -> None:
    named = {name for words in NAMED.findall(page.read_text(encoding="utf-8")) for name in words.split()}
    assert named - TARGETS == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_git_ignores_the_environment_that_the_readme_creates() -> None:
    [folder] = re.findall(r"python3 -m venv (\S+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert f"{folder}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_every_symptom_of_the_troubleshooting_page_can_occur() -> None:
    symptoms = list(quoted_symptoms())
    assert len(symptoms) > 30
    assert [symptom for symptom in symptoms if symptom not in CODE] == []


def quoted_symptoms() -> Iterator[str]:
    """What the first column of the page's tables quotes."""
    for line in (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            yield from re.findall(r"`([^`]+)`", line.split("|")[1])
