"""Helpers for tests of OCR, and a Tesseract that reads each picture once."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.extraction.ocr.tesseract import Reader, find_reader

SCANS = Path(__file__).parents[2] / "fixtures" / "scans"
LANGUAGES = "kor+eng"


def tesseract() -> Reader:
    """Tesseract in Korean and English. The test has the marker `tesseract`."""
    return find_reader("auto", LANGUAGES)


def share_kept(text: str, known: str) -> float:
    """The share of the words of fixtures/scans/`known` that the text contains, from 0 to 1."""
    words, found = (SCANS / known).read_text(encoding="utf-8").split(), text.split()
    kept = 0
    for word in words:
        if word in found:
            found.remove(word)
            kept += 1
    return kept / len(words)


# Tesseract is deterministic and takes seconds a page, and most tests read the same few pages.
REMEMBERING = """
import contextlib, ctypes, hashlib, os, pathlib, signal, subprocess, sys
real, kept, *arguments = sys.argv[1:]
picture = sys.stdin.buffer.read()
file = pathlib.Path(kept, hashlib.sha256(repr(arguments).encode() + picture).hexdigest())
try:
    found = file.read_bytes()
except OSError:
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: None
    dies_with_this = lambda: prctl(1, signal.SIGKILL)
    done = subprocess.run([real, *arguments], input=picture, stdout=subprocess.PIPE, preexec_fn=dies_with_this)
    if done.returncode < 0:
        signal.signal(-done.returncode, signal.SIG_DFL)
        os.kill(os.getpid(), -done.returncode)
    if done.returncode:
        sys.exit(done.returncode)
    found = done.stdout
    with contextlib.suppress(OSError):  # the reader of a document may be unable to write
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_bytes(found)
        draft.rename(file)
sys.stdout.buffer.write(found)
"""


@pytest.fixture(scope="session", autouse=True)
def remembering_tesseract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put a `tesseract` before the real one that keeps what the real one has read until this run of the tests ends."""
    real, path = shutil.which("tesseract"), os.environ["PATH"]
    if real is None:
        yield
        return
    folder, base = tmp_path_factory.mktemp("tesseract"), tmp_path_factory.getbasetemp()
    kept = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "read-pictures"
    kept.mkdir(exist_ok=True)
    (folder / "remembering.py").write_text(REMEMBERING)
    command = [sys.executable, "-IS", str(folder / "remembering.py"), real, str(kept)]
    # Questions for its version and its languages go to the real one: every scan of the tests asks both.
    reads = f'case " $* " in *" tsv "*) exec {shlex.join(command)} "$@" ;; esac'
    (folder / "tesseract").write_text(f'#!/bin/sh\n{reads}\nexec {shlex.quote(real)} "$@"\n')
    (folder / "tesseract").chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{path}"
    yield
    os.environ["PATH"] = path
