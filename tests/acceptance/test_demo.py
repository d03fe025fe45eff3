"""The whole demo in a separate process: the first thing a new user sees."""

import glob
import json

import pytest

from dagster_offload.extraction.tesseract import find_reader
from tests.support.acceptance import Home


@pytest.mark.timeout(300)
def test_the_demo_shows_deferrals_a_drain_and_all_records_and_leaves_no_files(home: Home) -> None:
    before = set(glob.glob("/tmp/dagster-offload-demo-*"))
    demo = home.run("demo", "--exit", "--json", seconds=280)
    assert demo.returncode == 0, demo.stderr
    report = json.loads(demo.stdout)
    assert report["deferrals"] > 0
    assert report["drains"] > 0
    assert report["served_models"] == ["simulated/extractive-8bit"]
    extract = report["stages"]["extract"]
    assert (extract["failed"], extract["pending"], extract["claimed"]) == (1, 0, 0)  # the interrupted download
    for stage in ("classify", "summarize"):
        assert report["stages"][stage]["done"] == extract["done"] >= 24
        assert report["stages"][stage]["failed"] == 0
    assert ("needs_ocr" in demo.stderr) != find_reader("auto", "kor+eng").can_read  # the receipt is a photograph
    assert not home.home.exists()  # the demo does not touch the ledger of OFFLOAD_HOME
    assert set(glob.glob("/tmp/dagster-offload-demo-*")) == before
