"""The whole demo in its own process: what a new user sees first."""

import json

from dagster_offload.extraction.ocr.tesseract import find_reader
from tests.support.acceptance import CLI, Home


def test_demo_shows_deferrals_a_drain_and_every_record_and_leaves_nothing(new_home: Home) -> None:
    temporary = new_home.folder / "tmp"  # of this test alone: another test may run a demo beside it
    temporary.mkdir()
    new_home.environment["TMPDIR"] = str(temporary)
    demo = new_home.run_python(*CLI, "demo", "--exit", "--json", seconds=500)
    assert demo.returncode == 0, demo.stderr
    found = json.loads(demo.stdout)
    assert found["deferrals"] > 0
    assert found["drains"] > 0
    assert found["served_models"] == ["simulated/extractive-8bit"]
    extract = found["stages"]["extract"]
    assert (extract["failed"], extract["pending"], extract["claimed"]) == (1, 0, 0)  # the interrupted download
    for stage in ("classify", "summarize"):
        assert found["stages"][stage]["done"] == extract["done"] >= 24
        assert found["stages"][stage]["failed"] == 0
    assert ("needs_ocr" in demo.stderr) != find_reader("auto", "kor+eng").can_read  # the receipt is a photograph
    assert not new_home.home.exists()  # the demo does not use OFFLOAD_HOME
    assert list(temporary.glob("dagster-offload-demo-*")) == []
