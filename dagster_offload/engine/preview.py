"""What a scan of a library would find, and what its documents would cost, before anything is stored. Uses no ledger.

The files are listed, and the text of a random sample is extracted. The tokens of the other files are estimated from those.
"""

import os
import queue
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dagster_offload.engine.scan import by_kind, walk_rules
from dagster_offload.engine.scan_report import KindLeftOut
from dagster_offload.errors import ExtractionFailed, LibraryMissing
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.library.files import FileStat, extension
from dagster_offload.library.walk import Walk, walk
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.prompts.prompt import RULES
from dagster_offload.text.tokens import DEFAULT_CONTEXT_TOKENS, estimated_tokens, text_tokens

MOST_SAMPLED = 60
MOST_SECONDS = 20.0
# Tokens that a model writes for one answer: a class takes 40, a summary 300 (measured), a user's own stage is between.
ANSWER_TOKENS = 200
# Paces of a slot that has not been measured: a small laptop, a strong laptop with a model of 27 B, a workstation.
PACES = (100, 300, 1000)


@dataclass(frozen=True)
class Sample:
    """A file of the sample: its size in bytes, and the tokens of its text (None: it cannot be read)."""

    size: int
    tokens: int | None
    needs_ocr: bool = False


@dataclass(frozen=True)
class FileKind:
    """The documents of one type. `tokens` is estimated from `sampled` of them, of which some may not be readable now."""

    type: str
    documents: int
    bytes: int
    sampled: int
    tokens: int
    with_text: int  # documents whose text a model reads, estimated
    need_ocr: int  # of the sampled ones
    unreadable: int  # of the sampled ones


@dataclass(frozen=True)
class Preview:
    """What a scan would find. `tokens` are those of all texts; a drain reads each text once and writes an answer a stage.
    `with_text` documents have a text that a model reads.

    `long_documents` do not fit one request, so they are read in parts. `left_out` is by kind of reason.
    """

    library: str
    documents: int
    bytes: int
    too_large: int
    kinds: list[FileKind]
    left_out: dict[str, KindLeftOut]
    unusable_names: dict[str, str]
    unreadable_folders: dict[str, str]
    stages: list[str]
    sampled: int
    with_text: int
    tokens: int
    tokens_read: int
    tokens_written: int
    long_documents: int

    def hours(self, tokens_per_second: float) -> float:
        """The slot's time for all documents at this pace."""
        return (self.tokens_read + self.tokens_written) / tokens_per_second / 3600


def list_library(settings: Settings, most_seconds: float | None = None) -> Walk:
    """The files of the library. Raises `LibraryMissing`, `ScanRefused`, and `TimeoutError` if it takes longer.

    In a thread, so that a network drive that hangs in the middle of it holds up neither a limit nor Ctrl-C.
    """
    return start_in_daemon_thread(walk, _library(settings), rules=walk_rules(settings)).result(most_seconds)


def preview(settings: Settings, found: Walk, *, most_seconds: float = MOST_SECONDS) -> Preview:
    """Read a sample of the files that `list_library` found. Takes at most about `most_seconds`."""
    library = _library(settings)
    limit = settings.library_section.max_file_size
    files = [file for file in found.files if file.size <= limit]
    by_type: dict[str, list[FileStat]] = {}
    for file in files:
        by_type.setdefault(extension(file.key) or "no extension", []).append(file)
    samples = _read(settings, library, choose(by_type), most_seconds)
    kinds = estimate({kind: [file.size for file in of_kind] for kind, of_kind in by_type.items()}, samples)
    stages = llm_stages(settings)
    tokens, with_text = sum(kind.tokens for kind in kinds), sum(kind.with_text for kind in kinds)
    asked = estimated_tokens(RULES) + sum(estimated_tokens(stage.instruction) for stage in stages.values())
    context = settings.slots.for_prompt()
    fits = text_tokens((context and context.context_tokens) or DEFAULT_CONTEXT_TOKENS)
    return Preview(
        library=str(library),
        documents=found.count,
        bytes=sum(file.size for file in found.files),
        too_large=found.count - len(files),
        kinds=kinds,
        left_out=by_kind(found.left_out),
        unusable_names={name.name: name.reason for name in found.unusable},
        unreadable_folders={folder.key: folder.reason for folder in found.unreadable},
        stages=list(stages),
        sampled=sum(kind.sampled for kind in kinds),
        tokens=tokens,
        with_text=with_text,
        tokens_read=tokens + asked * with_text,
        tokens_written=ANSWER_TOKENS * len(stages) * with_text,
        long_documents=_count_long(by_type, kinds, fits),
    )


def _library(settings: Settings) -> Path:
    if settings.library is None:
        raise LibraryMissing("no library: name it with --library DIR, or set OFFLOAD_LIBRARY")
    return settings.library


def choose(by_type: Mapping[str, Sequence[FileStat]], most: int = MOST_SAMPLED) -> list[tuple[str, FileStat]]:
    """A random sample, always the same for the same files: a file of each type in turn, so that none is left out."""
    chance = random.Random(0)  # noqa: S311 - not a secret
    shuffled = [
        [(kind, file) for file in chance.sample(files, min(len(files), most))] for kind, files in by_type.items()
    ]
    turns = max(map(len, shuffled), default=0)
    return [files[turn] for turn in range(turns) for files in shuffled if turn < len(files)][:most]


def estimate(sizes: Mapping[str, Sequence[int]], samples: Mapping[str, Sequence[Sample]]) -> list[FileKind]:
    """The kinds of files, the one with most tokens first. A type without a sample counts like the average of the others."""
    everything = [sample for of_kind in samples.values() for sample in of_kind]
    kinds = []
    for kind, all_sizes in sizes.items():
        of_kind = samples.get(kind, ())
        exact = sum(sample.tokens or 0 for sample in of_kind)
        rest = sum(all_sizes) - sum(sample.size for sample in of_kind)
        kinds.append(
            FileKind(
                type=kind,
                documents=len(all_sizes),
                bytes=sum(all_sizes),
                sampled=len(of_kind),
                tokens=exact + round(rest * _tokens_a_byte(of_kind or everything)),
                with_text=round(len(all_sizes) * _share_with_text(of_kind or everything)),
                need_ocr=sum(sample.needs_ocr for sample in of_kind),
                unreadable=sum(sample.tokens is None for sample in of_kind),
            )
        )
    return sorted(kinds, key=lambda kind: (-kind.tokens, -kind.documents, kind.type))


def _tokens_a_byte(samples: Sequence[Sample]) -> float:
    return sum(sample.tokens or 0 for sample in samples) / max(sum(sample.size for sample in samples), 1)


def _share_with_text(samples: Sequence[Sample]) -> float:
    return sum(bool(sample.tokens) for sample in samples) / max(len(samples), 1)


def _count_long(by_type: Mapping[str, Sequence[FileStat]], kinds: Sequence[FileKind], fits: int) -> int:
    rates = {kind.type: kind.tokens / max(kind.bytes, 1) for kind in kinds}
    return sum(file.size * rates[kind] > fits for kind, files in by_type.items() for file in files)


def _read(
    settings: Settings, library: Path, chosen: Sequence[tuple[str, FileStat]], most_seconds: float
) -> dict[str, list[Sample]]:
    """Extract the text of the chosen files on all cores, until the time is over."""
    deadline = time.monotonic() + most_seconds
    count = max(1, min(os.cpu_count() or 1, len(chosen)))
    idle: queue.SimpleQueue[Extractor] = queue.SimpleQueue()

    def read(file: FileStat) -> Sample | None:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        extractor = idle.get()
        try:
            extractor.time_limit_seconds = left
            return _sample(extractor, library / file.name, file.size)
        finally:
            idle.put(extractor)

    found: dict[str, list[Sample]] = {}
    with ThreadPoolExecutor(count) as threads, ExitStack() as extractors:
        for _ in range(count):
            idle.put(extractors.enter_context(Extractor(home=settings.home)))
        for (kind, _), sample in zip(chosen, threads.map(read, [file for _, file in chosen]), strict=True):
            if sample is not None:
                found.setdefault(kind, []).append(sample)
    return found


def _sample(extractor: Extractor, path: Path, size: int) -> Sample | None:
    try:
        found = extractor.extract(path)
    except ExtractionFailed as failed:
        return None if failed.code == "extraction_timeout" else Sample(size, None)
    except OSError:
        return Sample(size, None)
    return Sample(size, estimated_tokens(found.text) if found.text else 0, found.outcome == "needs_ocr")
