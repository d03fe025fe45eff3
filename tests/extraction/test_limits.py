"""The size limit of files, and the memory limit of extractor children."""

import os
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from dagster_offload.errors import ExtractionFailed
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.limits import (
    MAX_BYTES,
    MIN_BYTES,
    Children,
    children_for,
    keeps_much,
    memory_of_this_machine,
)
from dagster_offload.stages.graph import Outcome

GIB = 1024**3


@pytest.mark.parametrize(
    ("wanted", "memory", "children"),
    [
        (2, 1 * GIB, Children(1, MIN_BYTES)),  # a small VM: fewer children, with enough memory each
        (4, 4 * GIB, Children(4, MIN_BYTES)),
        (8, 16 * GIB, Children(8, int(1.5 * GIB))),
        (16, 256 * GIB, Children(16, MAX_BYTES)),
        (1, 8 * GIB, Children(1, MAX_BYTES)),
        (1, GIB // 4, Children(1, MIN_BYTES)),
    ],
)
def test_the_children_share_the_memory_of_the_machine(wanted: int, memory: int, children: Children) -> None:
    assert children_for(wanted, memory) == children


@pytest.mark.parametrize("wanted", [1, 2, 7, 64])
@pytest.mark.parametrize("gib", [1, 2, 3, 8, 20, 64, 1000])
def test_all_children_together_get_at_most_three_quarters_of_the_memory(wanted: int, gib: int) -> None:
    found = children_for(wanted, gib * GIB)
    assert 1 <= found.count <= wanted
    assert MIN_BYTES <= found.memory_limit_bytes <= MAX_BYTES
    assert found.count * found.memory_limit_bytes <= 0.75 * gib * GIB


def test_the_limit_of_a_container_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_offload.extraction import limits

    unlimited, limited = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    unlimited.write_text("max\n")
    limited.write_text(f"{GIB}\n")
    monkeypatch.setattr(limits, "_CONTAINER_LIMITS", (unlimited, tmp_path / "missing"))
    whole = memory_of_this_machine()
    assert whole > GIB
    monkeypatch.setattr(limits, "_CONTAINER_LIMITS", (unlimited, limited))
    assert memory_of_this_machine() == GIB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_a_child_keeps_much_if_it_holds_a_third_of_its_limit() -> None:
    with Extractor() as extractor:
        extractor.extract(Path(__file__))
        assert extractor.child_pid is not None
        held = psutil.Process(extractor.child_pid).memory_info().vms
        assert keeps_much(extractor.child_pid, int(2.9 * held))
        assert not keeps_much(extractor.child_pid, int(3.1 * held))
        child = extractor.child_pid
    assert not keeps_much(child, 1024**2), "a child that has ended holds nothing"


def test_a_file_over_the_size_limit_is_not_read(tmp_path: Path) -> None:
    """A sparse file of one tebibyte. Reading it would exceed the child's memory and time limits."""
    huge, small = tmp_path / "huge.txt", tmp_path / "small.txt"
    huge.touch()
    os.truncate(huge, 1024 * GIB)
    small.write_text("Dear landlord, the heating has been cold since Monday.")
    with Extractor(most_bytes=1024) as extractor:
        with pytest.raises(ExtractionFailed) as failed:
            extractor.extract(huge)
        child = extractor.child_pid
        assert extractor.extract(small).outcome is Outcome.OK
        assert extractor.child_pid == child  # the child was not killed
    assert failed.value.code == "too_large"
    assert failed.value.is_final
    assert failed.value.message.startswith("the file has 1 TiB, and the limit is 1 KiB")
    assert "OFFLOAD_MAX_FILE_SIZE" in failed.value.message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("meta.html", "<html><body>A letter." + "<meta " * 300_000),
        ("svg.html", "<html><body>A letter." + "<svg>" * 300_000),
        ("title.html", "<html><body>A letter." + "<title>x" * 300_000),
        ("closing.html", "<html><body><title>" + "</title          " * 300_000),
        ("words.eml", "Subject: " + "=?a?q?x" * 300_000 + "\nFrom: me\n\nA letter.\n"),
        ("times.mbox", "From a b " + "12:34" * 300_000 + "\nno header\n"),
        ("marks.txt", "A letter." + "\u0316\u0301" * 300_000),
        ("encryption.xml", "EncryptionMethod" * 300_000),
    ],
)
def test_a_pattern_repeated_300_000_times_is_read_within_the_time_limit(
    tmp_path: Path, name: str, content: str
) -> None:
    """A pattern that backtracks over the whole file takes hours for each of these. The child's time limit ends it."""
    file = tmp_path / name
    file.write_text(content)
    code = None
    with Extractor() as extractor:
        try:
            extractor.extract(file)
        except ExtractionFailed as failed:
            code = failed.code
    assert code in (None, "broken_file")
