"""The pipeline files that the pages show are read, with the variables that they name set in the environment."""

import re
from pathlib import Path

import pytest

from dagster_offload.settings import Settings, load_settings
from dagster_offload.settings.sources import REFERENCE
from dagster_offload.settings.yaml_text import parse_yaml

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS = {field.alias or name for name, field in Settings.model_fields.items()}
VALUES = {"LEDGER_URL": "postgresql://offload@box/offload", "REDIS_URL": "rediss://:secret@box:6379/0"}


def examples() -> list[tuple[str, str]]:
    """The blocks whose keys are those of a pipeline file, by page. Those of own-stages.md name files: another test has them."""
    found = []
    for page in sorted(DOCS.glob("*.md")):
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            keys = parse_yaml(block, page.name).values.keys()
            if page.name != "own-stages.md" and keys and keys <= SECTIONS:
                found.append((page.name, block))
    return found


@pytest.mark.parametrize(("page", "block"), examples())
def test_a_pipeline_file_on_a_page_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, block: str
) -> None:
    for _, name in REFERENCE.findall(block):
        monkeypatch.setenv(name, VALUES.get(name, "https://example.org/secret"))
    file = tmp_path / "offload.yaml"
    file.write_text(block, encoding="utf-8")
    assert load_settings(home=tmp_path / "home", config=file).home == tmp_path / "home"


def test_pages_show_such_files() -> None:
    assert {"pipeline-file.md", "several-hosts.md", "sinks.md"} <= {page for page, _ in examples()}
