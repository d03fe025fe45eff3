"""What a scan found, and what a run of the job `scan` achieved."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KindLeftOut:
    """Files and folders that were left out for one kind of reason: how many, and the names of the first few."""

    count: int
    names: list[str]


@dataclass(frozen=True)
class ScanReport:
    """What a scan found, in documents.

    `left_out` is by kind of reason (`library.left_out.Kind`). `no_longer_documents` are documents of the ledger that
    are left out now, with the reason; they count as vanished, and their results are kept.
    """

    found: int
    added: int
    changed: int
    returned: int
    vanished: int
    unreadable: int
    left_for_next_scan: int
    unusable_names: dict[str, str]
    unreadable_folders: dict[str, str]
    left_out: dict[str, KindLeftOut]
    no_longer_documents: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class ScanSummary(ScanReport):
    """The report of a scan, and how the extraction after it ended, in documents.

    `extraction_waiting` are those whose text is neither extracted nor failed; `extraction_to_retry` has the reasons of some of
    them, by key. `machine_fault` says why this machine could not go on; empty if it could.
    """

    extracted: int
    extraction_failed: int
    extraction_waiting: int
    extraction_to_retry: dict[str, str]
    machine_fault: str
