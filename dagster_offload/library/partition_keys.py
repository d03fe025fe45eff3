"""Which Dagster partition a document belongs to. Pure: no I/O. This is the only place that decides it."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

# Dagster's pages load all partitions of an asset.
MOST_PARTITIONS = 2_000
ROOT = "."  # the partition of the documents that are in no folder
EARLIEST, LATEST = 1970, 2099  # years; with every month between them there are 1,560 partitions
BEFORE, AFTER = f"before-{EARLIEST}", f"after-{LATEST}"


class By(StrEnum):
    """What the documents of one partition have in common."""

    DOCUMENT = "document"  # each document is a partition
    FOLDER = "folder"  # the folder, or its first levels
    MONTH = "month"  # the month of the modification time, in UTC
    SHARD = "shard"  # a hash of the key


@dataclass(frozen=True)
class PartitionRule:
    """How documents are grouped into partitions.

    `number` is the number of shards; for `folder`, how many levels of the path count (None: all of them).
    """

    by: By = By.DOCUMENT
    number: int | None = None

    @classmethod
    def parse(cls, written: str) -> "PartitionRule":
        """The rule that a person wrote: `document`, `folder`, `month` or `shard:100`.

        Raises `ValueError` that says what is accepted.
        """
        by, _, number = written.partition(":")
        if by == By.SHARD and re.fullmatch("[0-9]{1,9}", number) and 1 <= int(number) <= MOST_PARTITIONS:
            return cls(By.SHARD, int(number))
        if written in (By.DOCUMENT, By.FOLDER, By.MONTH):
            return cls(By(written))
        raise ValueError(f"write document, folder, month, or shard:N with N from 1 to {MOST_PARTITIONS}")

    def __str__(self) -> str:
        return self.by.value if self.number is None else f"{self.by.value}:{self.number}"

    @property
    def is_grouped(self) -> bool:
        """Whether a partition may hold several documents."""
        return self.by is not By.DOCUMENT

    def key_of(self, document: str, mtime_ns: int) -> str:
        """The partition of a document. `mtime_ns` is its modification time, in nanoseconds since 1970."""
        match self.by:
            case By.FOLDER:
                return _first_levels(folder_of(document), self.number)
            case By.MONTH:
                return _month(mtime_ns)
            case By.SHARD:
                hashed = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8])
                return f"shard-{hashed % (self.number or 1):04d}"
            case By.DOCUMENT:
                return document


PER_DOCUMENT = PartitionRule()


def folder_of(document: str) -> str:
    """The folder of a document."""
    return document.rpartition("/")[0] or ROOT


def fitted(rule: PartitionRule, folders: Iterable[str], most: int = MOST_PARTITIONS) -> PartitionRule:
    """The rule with the most levels of these folders that gives at most `most` partitions, and no more levels than it has.

    With no level at all, every document is in the partition `.`. A rule that is not by folder always fits.
    """
    folders = set(folders)
    deepest = max((folder.count("/") + 1 for folder in folders if folder != ROOT), default=0)
    while rule.by is By.FOLDER and len({_first_levels(folder, rule.number) for folder in folders}) > most:
        rule = replace(rule, number=min(deepest, deepest if rule.number is None else rule.number) - 1)
    return rule


def _first_levels(folder: str, levels: int | None) -> str:
    return folder if levels is None else "/".join(folder.split("/")[:levels]) or ROOT


def _month(mtime_ns: int) -> str:
    try:
        when = datetime.fromtimestamp(mtime_ns // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):  # no date of Python's calendar
        return BEFORE if mtime_ns < 0 else AFTER
    return BEFORE if when.year < EARLIEST else AFTER if when.year > LATEST else f"{when:%Y-%m}"
