"""The readers without limits, ledger or engine, in a pool of processes: `python bare_extractor.py PROCESSES < paths`."""

import multiprocessing
import sys
from pathlib import Path

from dagster_offload.extraction.ocr.scans import PictureReader
from dagster_offload.extraction.ocr.tesseract import NO_READER
from dagster_offload.extraction.readers import read_file
from dagster_offload.extraction.refusals import FileRefused
from dagster_offload.library.files import extension


def text_of(path: str) -> str:
    try:
        return read_file(
            Path(path).read_bytes(), path, extension(path), PictureReader(NO_READER, {}, lambda _page: None)
        ).text
    except FileRefused:
        return ""


def main() -> None:
    paths = sys.stdin.read().splitlines()
    with multiprocessing.get_context("spawn").Pool(int(sys.argv[1])) as pool:
        for _ in pool.imap_unordered(text_of, paths, chunksize=1):
            pass


if __name__ == "__main__":
    main()
