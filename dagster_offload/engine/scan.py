"""A scan compares the library with the ledger, digests files that may have changed, and stores what is new, changed or gone.

This module does not extract text. A scan that would empty the ledger (an unmounted library) changes nothing.
"""

import errno
import heapq
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path

from dagster_offload.engine.scan_report import KindLeftOut, ScanReport
from dagster_offload.engine.vanished import refuse_another_library, refuse_mass_vanishing
from dagster_offload.errors import ChangedWhileRead, LibraryMissing
from dagster_offload.host.machine import host_name
from dagster_offload.ledger.core import identity
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.identity import ScannedLibrary
from dagster_offload.ledger.core.pipelines import refuse_other_library
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.partitions import assigning
from dagster_offload.ledger.work import documents
from dagster_offload.ledger.work.documents import KnownDocument
from dagster_offload.library.digests import digest
from dagster_offload.library.files import FileStat, SeenFile, printable
from dagster_offload.library.left_out import Kind, LeftOut
from dagster_offload.library.missing import try_to_list
from dagster_offload.library.new_files import NewFiles
from dagster_offload.library.seen import SeenFiles
from dagster_offload.library.too_large import too_large
from dagster_offload.library.walk import Walk, WalkRules, walk
from dagster_offload.postgres.room import refuse_without_room
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import recipes

BATCH = 100
LOOKED_UP = 10 * BATCH  # files whose documents are looked up together
NAMES_SHOWN = 3  # of the files left out for one reason
UNREADABLE = "unreadable"  # the reason's code, if a file cannot be read
_SHORT_OF_MEANS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # this machine lacks handles or memory
# A file system that is gone, or its server: a network share, an unplugged disk.
_LOST_MOUNT = {
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EIO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENODEV,
    errno.ENOTCONN,
    errno.ENXIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
TOO_LARGE = "too_large"  # the reason of such a document starts with this

Progress = Callable[[int, int], None]  # done, total


def scan(
    settings: Settings,
    ledger: Ledger,
    *,
    accept_vanished: bool = False,
    run_id: str | None = None,
    on_progress: Progress | None = None,
) -> ScanReport:
    """Bring the ledger's documents up to date with the library.

    Raises `LibraryMissing`, `OtherPipeline`, and `NoRoom` if the disk is full. Unless `accept_vanished`, raises
    `ScanRefused` if the ledger has documents and the walk finds none, or more than 10 documents and more than 20 % are gone
    or left out by a rule, or the last scan read another path and less than half of the documents are here.
    """
    library = _library(settings)
    ledger.run(refuse_other_library, str(library))
    refuse_without_room(settings)
    with Worker(ledger, "scan", run_id=run_id):  # registered, so that other processes see that a scan runs
        return _scan(settings, ledger, library, accept_vanished=accept_vanished, on_progress=on_progress)


def _scan(
    settings: Settings, ledger: Ledger, library: Path, *, accept_vanished: bool, on_progress: Progress | None
) -> ScanReport:
    started = time.monotonic()
    started_at, last_library = ledger.run(documents.now), ledger.run(identity.scanned_library)
    # What could not be read may be readable by now, although the file is the same: a disk, a server or a right was mended.
    last = _last_scan(settings, started_at, retried=UNREADABLE)
    seen = ledger.run(_seen_files, last)
    found = walk(library, seen, walk_rules(settings))
    vanished = ledger.run(_vanished, found, seen, last)
    here = ScannedLibrary(printable(os.path.realpath(library)), host_name())
    if not accept_vanished:
        kept = len(seen) - len(vanished)
        refuse_another_library(settings, ledger, last_library, here, library, found, kept=kept, present=len(seen))
        refuse_mass_vanishing(library, found, vanished, len(seen), ledger.schema)

    ledger.run(identity.note_library, here, last_library)
    scan_id = ledger.run(documents.begin_scan)
    counts = _store_changes(settings, ledger, found.files, started_at, on_progress)
    left_out = {key: left for key, left in vanished.items() if left is not None}
    ledger.run(documents.mark_gone, [key for key in vanished if key not in left_out])
    for reason in dict.fromkeys(left.reason for left in left_out.values()):
        keys = [key for key, left in left_out.items() if left.reason == reason]
        ledger.run(documents.mark_gone, keys, f"left out: {reason}")
    ledger.run(documents.replace_unusable_names, found.unusable)
    ledger.run(
        documents.end_scan,
        scan_id,
        found=found.count,
        added=counts.added,
        changed=counts.changed,
        vanished=len(vanished),
        returned=counts.returned,
    )
    return ScanReport(
        found=found.count,
        added=counts.added,
        changed=counts.changed,
        returned=counts.returned,
        vanished=len(vanished),
        unreadable=counts.unreadable,
        left_for_next_scan=counts.left,
        unusable_names={name.name: name.reason for name in found.unusable},
        unreadable_folders={folder.key: folder.reason for folder in found.unreadable},
        left_out=by_kind(found.left_out),
        no_longer_documents={key: left.reason for key, left in left_out.items()},
        seconds=round(time.monotonic() - started, 3),
    )


def library_differs(settings: Settings, ledger: Ledger) -> str | None:
    """Describe what a scan would store, by file stats alone; None if nothing changed. Raises `LibraryMissing`."""
    last = _last_scan(settings, ledger.run(documents.now))
    seen = ledger.run(_seen_files, last)
    found = walk(_library(settings), seen, walk_rules(settings))
    vanished = len(ledger.run(_vanished, found, seen, last))
    if found.files or vanished:
        return f"{len(found.files)} new or changed, {vanished} gone, of {found.count} files"
    return None


def _library(settings: Settings) -> Path:
    if settings.library is None:
        raise LibraryMissing("no library: set OFFLOAD_LIBRARY to the folder of your documents")
    return settings.library


def walk_rules(settings: Settings) -> WalkRules:
    """What a scan of the library enters and leaves out."""
    return WalkRules(
        home=settings.home,
        cross_mounts=settings.library_section.cross_mounts,
        ignore=settings.library_section.ignore,
        include=settings.library_section.include,
    )


def list_left_out(settings: Settings) -> dict[str, LeftOut]:
    """Everything that a scan leaves out, by name, in order. Uses no ledger. Raises `LibraryMissing`, `ScanRefused`."""
    found = walk(_library(settings), rules=walk_rules(settings))
    named = {printable(name): left for name, left in found.left_out.items()}
    named |= {each.name: LeftOut(Kind.NAME, each.reason, "rename it") for each in found.unusable}
    return dict(sorted(named.items()))


def by_kind(left_out: Mapping[str, LeftOut]) -> dict[str, KindLeftOut]:
    """What is left out, counted by kind of reason."""
    names: dict[str, list[str]] = {}
    for name, left in left_out.items():
        names.setdefault(left.kind, []).append(name)
    return {
        kind: KindLeftOut(len(names[kind]), [printable(name) for name in heapq.nsmallest(NAMES_SHOWN, names[kind])])
        for kind in sorted(names)
    }


@dataclass
class _Counts:
    added: int = 0
    changed: int = 0
    returned: int = 0
    unreadable: int = 0
    left: int = 0


def _store_changes(
    settings: Settings,
    ledger: Ledger,
    files: NewFiles,
    started_at: datetime,
    on_progress: Progress | None,
) -> _Counts:
    counts, current_recipes = _Counts(), recipes(settings)
    done, to_come = 0, iter(files)
    while looked_up := list(islice(to_come, LOOKED_UP)):
        keys = [file.key for file in looked_up]
        known = {row.key: row for row in ledger.run(documents.known_documents, keys)}
        for start in range(0, len(looked_up), BATCH):
            batch = looked_up[start : start + BATCH]
            read = _digested(batch, known, settings.library_section.max_file_size, counts)
            new = [(file, found) for file, found, _ in read if found is not None and file.key not in known]
            others = [entry for entry in read if entry[1] is None or entry[0].key in known]
            ledger.run(_store_batch, new, others, current_recipes, started_at)
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(files))
    return counts


def _digested(
    files: Sequence[FileStat], known: Mapping[str, KnownDocument], limit: int, counts: _Counts
) -> list[tuple[FileStat, str | None, str | None]]:
    """Each file with its digest, or with why it could not be read. Those that are being written are left out."""
    read: list[tuple[FileStat, str | None, str | None]] = []
    for file in files:
        before = known.get(file.key)
        try:
            found, unreadable = None, _too_large(file, limit)
            if unreadable is None:
                found = digest(file)
            else:
                counts.unreadable += 1
        except ChangedWhileRead:
            counts.left += 1
            continue
        except (FileNotFoundError, NotADirectoryError):  # removed since the walk; the next scan sees that it is gone
            counts.left += 1
            continue
        except OSError as error:
            if error.errno in _SHORT_OF_MEANS:
                counts.left += 1
                continue
            if error.errno in _LOST_MOUNT:
                _refuse_lost_library(file.library)
                if error.errno != errno.EIO:  # a mount below the library is lost, or an NFS server removed the file
                    counts.left += 1
                    continue
            found, unreadable = None, f"{UNREADABLE}: {error.strerror}: check the file's permissions, then scan again"
            counts.unreadable += 1
        counts.added += before is None
        counts.returned += before is not None and not before.is_present
        counts.changed += before is not None and before.is_present and before.digest != found
        read.append((file, found, unreadable))
    return read


def _refuse_lost_library(library: str) -> None:
    """Raise `LibraryMissing` if the library itself got lost, as when its mount ends."""
    try:
        try_to_list(library)
    except OSError as lost:
        raise LibraryMissing(
            f"the library {library} can no longer be read ({lost.strerror}). What was found until then is stored. Is it "
            "mounted? Scan again when it is"
        ) from None


def _store_batch(
    cur: Cursor,
    new: list[tuple[FileStat, str]],
    others: list[tuple[FileStat, str | None, str | None]],
    current_recipes: Mapping[str, str],
    started_at: datetime,
) -> None:
    rule = assigning.locked_rule(cur)
    if new:
        documents.store_new(cur, new, current_recipes, started_at)
    for file, found, unreadable in others:
        documents.store(cur, file, found, unreadable, current_recipes, started_at)
    assigning.assign(cur, rule, [*(file.key for file, _ in new), *(file.key for file, _, _ in others)])


# Reads the files as the last scan saw them. It keeps the connection until it is closed, so each use closes it: otherwise a
# rollback after Ctrl-C would wait for it for ever.
LastScan = Callable[[Cursor], Generator[SeenFile]]


def _seen_files(cur: Cursor, last: LastScan) -> SeenFiles:
    with closing(last(cur)) as files:
        return SeenFiles(files)


def _last_scan(settings: Settings, at: datetime, retried: str | None = None) -> LastScan:
    # Documents refused for their size that fit the present setting must be read, even if unchanged.
    most = settings.library_section.max_file_size
    return partial(documents.present_files, at=at, reason=TOO_LARGE, most=most, retried=retried)


def _too_large(file: FileStat, limit: int) -> str | None:
    return f"{TOO_LARGE}: {too_large(file.size, limit)}" if file.size > limit else None


def _vanished(cur: Cursor, found: Walk, seen: SeenFiles, last: LastScan) -> dict[str, LeftOut | None]:
    """Keys that are in the ledger and not in the library, with the rule that leaves the file out; None = it is gone.

    A document in a folder that cannot be listed is not gone, and neither is one that is not downloaded.
    """
    if found.unchanged == len(seen):
        return {}
    # Below a folder that could not be listed, or below an entry that may be a folder.
    hidden = tuple(folder.key if folder.key.endswith("/") else f"{folder.key}/" for folder in found.unreadable)
    broken = {folder.key for folder in found.unreadable}
    with closing(last(cur)) as files:
        missed = dict.fromkeys(seen.not_found(files))
    for key in found.not_downloaded:
        missed.pop(key, None)
    for file in found.files if missed else ():
        missed.pop(file.key, None)
    return {key: found.why_left_out(key) for key in missed if key not in broken and not key.startswith(hidden)}
