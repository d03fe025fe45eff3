"""Which partition a document belongs to: stable, valid, and at most 2,000 of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_offload.library.partition_keys import MOST_PARTITIONS, By, PartitionRule, fitted, folder_of

NAMES = st.text("abcä계 -.[](),", min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
DOCUMENTS = st.lists(NAMES, min_size=1, max_size=6).map("/".join)
NANOSECONDS = st.integers(-(2**63), 2**63 - 1)


def as_path(folder: str) -> str:
    return "" if folder == "." else folder + "/"


@given(DOCUMENTS, st.integers(1, MOST_PARTITIONS), NANOSECONDS, NANOSECONDS)
def test_a_shard_depends_on_the_key_alone(document: str, shards: int, once: int, later: int) -> None:
    rule = PartitionRule.parse(f"shard:{shards}")
    key = rule.key_of(document, once)
    assert key == rule.key_of(document, later)
    assert re.fullmatch("shard-[0-9]{4}", key)
    assert int(key[-4:]) < shards


def test_a_shard_stays_the_same_for_ever() -> None:
    rule = PartitionRule.parse("shard:100")
    documents = ["a.txt", "letters/2026/rent.pdf", "회사 문서/보고서.hwp"]
    assert [rule.key_of(document, 0) for document in documents] == ["shard-0029", "shard-0084", "shard-0009"]


@given(NANOSECONDS)
def test_every_time_has_one_of_at_most_2000_months(mtime_ns: int) -> None:
    key = PartitionRule(By.MONTH).key_of("a.txt", mtime_ns)
    assert re.fullmatch(r"before-1970|after-2099|(19[7-9]|20[0-9])[0-9]-(0[1-9]|1[0-2])", key)


def test_a_month_is_that_of_the_modification_time_in_utc() -> None:
    rule = PartitionRule(By.MONTH)
    last_second_of_november = 1_796_083_199
    assert rule.key_of("a.txt", last_second_of_november * 10**9) == "2026-11"
    assert rule.key_of("a.txt", (last_second_of_november + 1) * 10**9) == "2026-12"


@given(st.lists(DOCUMENTS, max_size=40), st.integers(1, 10), st.none() | st.integers(0, 4))
def test_folders_beyond_the_limit_count_with_fewer_levels(documents: list[str], most: int, levels: int | None) -> None:
    wanted = PartitionRule(By.FOLDER, levels)
    rule = fitted(wanted, map(folder_of, documents), most)
    keys = {rule.key_of(document, 0) for document in documents}
    assert len(keys) <= most
    for document in documents:  # a partition is the document's folder, or one above it
        assert as_path(folder_of(document)).startswith(as_path(rule.key_of(document, 0)))
    if rule != wanted:  # one more level would be too many
        assert rule.number is not None
        more = PartitionRule(By.FOLDER, rule.number + 1)
        assert len({more.key_of(document, 0) for document in documents}) > most


@given(st.lists(DOCUMENTS, max_size=40), st.lists(DOCUMENTS, max_size=40), st.integers(1, 10))
def test_the_levels_of_folders_never_grow(before: list[str], after: list[str], most: int) -> None:
    rule = fitted(PartitionRule(By.FOLDER), map(folder_of, before), most)
    later = fitted(rule, map(folder_of, after), most)
    assert rule.number is None or (later.number is not None and later.number <= rule.number)


def test_documents_in_no_folder_share_a_partition() -> None:
    rule = PartitionRule(By.FOLDER)
    assert [rule.key_of(document, 0) for document in ("a.txt", "b/c.txt", "b/d/e.txt")] == [".", "b", "b/d"]


@pytest.mark.parametrize("written", ["document", "folder", "month", "shard:1", "shard:2000"])
def test_a_rule_is_written_as_it_was_read(written: str) -> None:
    assert str(PartitionRule.parse(written)) == written


@pytest.mark.parametrize(
    "written",
    ["", "shard", "shard:", "shard:0", "shard:2001", "shard:-1", "shard:x", "shard:٣", "folder:2", "month:1", "Folder"],
)
def test_anything_else_is_refused_with_what_is_accepted(written: str) -> None:
    with pytest.raises(ValueError, match="document, folder, month, or shard:N with N from 1 to 2000"):
        PartitionRule.parse(written)
