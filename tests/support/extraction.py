"""Documents to extract, and extractors that a test can block."""

import threading
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.engine.scan import scan
from dagster_offload.errors import ExtractionFailed
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.stages.graph import Outcome
from tests.support.engine import Engine
from tests.support.patience import PATIENCE_SECONDS

FORMATS = Path(__file__).parents[2] / "fixtures" / "formats"
COUNT = 60


def failure(extractor: Extractor, path: Path) -> ExtractionFailed:
    """The failure of a file. Its message must not quote the document, and must be for a person."""
    with pytest.raises(ExtractionFailed) as failed:
        extractor.extract(path)
    assert "haebaragi" not in f"{failed.value!r}".lower()
    assert "application/" not in failed.value.message
    return failed.value


def reads_the_next_one(extractor: Extractor, folder: Path) -> bool:
    after = folder / "after.txt"
    after.write_bytes(b"the next document")
    return extractor.extract(after).text == "the next document"


class BlockingExtractor:
    """Extractors that block on a file named `slow` until `is_open` is set. All other files are quick."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()
        self.is_open = threading.Event()

    def extractor(self, **_options: Any) -> "BlockingExtractor":
        return self

    def extract(self, path: Path, *_given: Any, **_options: Any) -> Extracted:
        if path.stem == "slow":
            self.is_reached.set()
            assert self.is_open.wait(PATIENCE_SECONDS)
        return Extracted(Outcome.OK, path.name)

    def close(self) -> None: ...

    def __enter__(self) -> "BlockingExtractor":
        return self

    def __exit__(self, *_exc: object) -> None: ...


def written(engine: Engine, *keys: str) -> None:
    for key in keys:
        (engine.library / key).write_text(f"This is {key}, a note of some length for those who read it.")
    scan(engine.settings(), engine.ledger)


def notes() -> list[str]:
    return [f"{number:03}.txt" for number in range(COUNT)]


def claimed(engine: Engine) -> list[str]:
    rows = engine.sql(
        "select d.key from work_items i join documents d using (document_id) where i.state = 'claimed' order by d.key"
    )
    return [row["key"] for row in rows]


def states(engine: Engine) -> dict[str, int]:
    rows = engine.sql("select state, count(*) as n from work_items where stage = 'extract' group by state")
    return {row["state"]: row["n"] for row in rows}
