"""Whether a host may take part in an extraction: each check names what differs, and what to change."""

from dataclasses import replace
from pathlib import Path

import pytest

from dagster_offload import __version__
from dagster_offload.engine.extraction import host
from dagster_offload.engine.extraction.host import (
    LibraryWatch,
    Terms,
    check_clock,
    check_host,
    check_library,
    check_ocr,
    check_version,
    refuse_other_terms,
    refuse_unfit_host,
)
from dagster_offload.errors import HostRefused
from dagster_offload.ledger.core import pipelines
from dagster_offload.ledger.core.migrate import newest_step
from dagster_offload.ledger.core.pipelines import AnnouncedPipeline
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.stages.pipeline import Pipeline, pipeline_of
from tests.support.engine import Engine
from tests.support.extraction import notes, written


def test_a_host_like_the_one_of_the_ledger_passes_every_check(engine: Engine) -> None:
    written(engine, *notes())
    checks = list(check_host(engine.settings(), engine.ledger))
    assert [check.name for check in checks] == ["ledger", "version", "pipeline", "library", "clock"]
    assert [check.found for check in checks if not check.ok] == []


@pytest.mark.parametrize(
    ("difference", "found"), [(1, "this host is older than the ledger"), (-1, "the ledger is older than this host")]
)
def test_another_schema_step_is_refused_without_a_migration(engine: Engine, difference: int, found: str) -> None:
    step = newest_step()
    if difference > 0:
        engine.sql("insert into migrations (number, name) values (%s, 'newer') returning number", step + 1)
    else:
        engine.sql("delete from migrations where number = %s returning number", step)
    before = engine.sql("select number from migrations order by number")
    (check,) = check_host(engine.settings(), engine.ledger)
    assert not check.ok
    assert found in check.found
    assert engine.sql("select number from migrations order by number") == before


def test_another_version_than_that_of_up_is_refused() -> None:
    pipeline = Pipeline({}, {}, "0.1.0")
    check = check_version([AnnouncedPipeline(7, "box", None, None, pipeline)])
    assert not check.ok
    assert check.found.startswith(f"`up` on box has dagster-offload 0.1.0, and this host {__version__}")
    assert check_version([]).ok


@pytest.mark.rule("hosts-2")
def test_other_stages_than_those_of_up_are_refused(engine: Engine) -> None:
    there = pipeline_of(engine.settings(classes="tax,rent"))
    with Worker(engine.ledger, "up") as up:
        engine.ledger.run(pipelines.announce, up.id, there, None)
        with pytest.raises(HostRefused, match=r"this host takes no documents: the running `up` .*classify"):
            refuse_unfit_host(engine.settings(), engine.ledger)


@pytest.mark.rule("hosts-2")
def test_a_folder_without_the_documents_of_the_ledger_is_not_the_library(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("four")
    known = {"a.txt": 4}
    assert check_library(tmp_path, known).ok
    assert check_library(tmp_path, {}).ok
    assert check_library(tmp_path, {**known, "gone.txt": 9}).ok  # one of two was removed since the last scan

    other_sizes = check_library(tmp_path, {"a.txt": 5})
    assert "1 of 1 documents are missing or have another size here, such as a.txt" in other_sizes.found
    assert not other_sizes.ok
    missing = check_library(tmp_path / "missing", known)
    assert not missing.ok
    assert "No such file or directory. Is it mounted?" in missing.found
    (tmp_path / "a.txt").unlink()
    assert "is empty here, and the ledger has documents. Is it mounted?" in check_library(tmp_path, known).found
    assert "set OFFLOAD_LIBRARY" in check_library(None, known).found


def test_a_library_that_vanishes_is_noticed(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    watch = LibraryWatch(library)
    watch.refuse_if_lost()
    library.rename(tmp_path / "elsewhere")
    with pytest.raises(HostRefused, match="can no longer be reached"):
        watch.refuse_if_lost()
    (tmp_path / "under the mount").mkdir()
    (tmp_path / "under the mount").rename(library)
    with pytest.raises(HostRefused, match="can no longer be reached"):
        watch.refuse_if_lost()


def test_a_host_without_tesseract_is_refused_unless_ocr_is_off(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    refused = check_ocr(engine.settings(ocr="auto"))
    assert not refused.ok
    assert "Tesseract is not installed" in refused.found
    assert refused.found.endswith("Or set OFFLOAD_OCR=off on all hosts")
    assert check_ocr(engine.settings(ocr="off")).ok


@pytest.mark.parametrize(("skew", "found"), [(1.0, "as the"), (600.0, "600 s ahead of"), (-600.0, "600 s behind")])
def test_a_clock_that_differs_is_named_and_harmless(skew: float, found: str) -> None:
    check = check_clock(skew)
    assert check.ok
    assert found in check.found


@pytest.mark.rule("hosts-2")
def test_the_steps_of_a_run_need_the_same_ledger_version_and_ocr() -> None:
    terms = Terms("a", "0.2.0", "kor+eng")
    refuse_other_terms(terms, Terms.read(str(terms)))
    refuse_other_terms(terms, replace(terms, ocr_languages=""))  # this host can do more
    for here, reason in (
        (replace(terms, ledger_id="b"), "another ledger"),
        (replace(terms, version="0.3.0"), "this host has dagster-offload 0.3.0, and the run 0.2.0"),
        (replace(terms, ocr_languages="eng"), "cannot read pictures in kor"),
        (replace(terms, ocr_languages=""), "cannot read pictures in eng and kor"),
    ):
        with pytest.raises(HostRefused, match=reason):
            refuse_other_terms(here, terms)


def test_the_clock_of_this_host_is_that_of_its_database(engine: Engine) -> None:
    assert abs(host._clock_skew(engine.ledger)) < 60
