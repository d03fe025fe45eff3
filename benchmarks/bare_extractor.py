"""kreuzberg as its README shows it, in a pool of processes: `python bare_extractor.py PROCESSES < paths`."""

import multiprocessing
import os
import sys
import tempfile

import kreuzberg


def _use(folder: str) -> None:
    os.environ["TMPDIR"] = folder


def text_of(path: str) -> str:
    try:
        return kreuzberg.extract_file_sync(path).content
    except kreuzberg.KreuzbergError:
        return ""


def main() -> None:
    paths = sys.stdin.read().splitlines()
    with (
        tempfile.TemporaryDirectory() as folder,  # not the shared one, where another user may have left files
        multiprocessing.get_context("spawn").Pool(int(sys.argv[1]), _use, [folder]) as pool,
    ):
        for _ in pool.imap_unordered(text_of, paths, chunksize=1):
            pass


if __name__ == "__main__":
    main()
