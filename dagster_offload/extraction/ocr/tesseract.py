"""Find Tesseract and its languages, and read the text of one picture with it.

The main process (doctor, status, scan) calls `find_reader`. The extractor's child calls `read`. A running Tesseract
process dies with the child.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from dagster_offload.text.counts import plural
from dagster_offload.text.lists import listed

QUERY_LIMIT_SECONDS = 10.0

# Layout analysis loses lines of text in square scripts: 30 to 70 % of the words of a Korean page as measured, against
# 4 % when the page is read as one column. Such pages are also read as one column, and the better result is used.
_SQUARE_LANGUAGES = ("kor", "jpn", "chi_")
_SQUARE_LETTER = re.compile("[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af]")
_PAGE_WITH_ORIENTATION, _PAGE_AS_IT_STANDS, _ONE_COLUMN = "1", "3", "4"
_BETTER_BY = 1.1
_SURE_CONFIDENCE = 60.0  # percent: the least confidence of a word that Tesseract is sure of
_TABLE_COLUMNS = 12
_DEATH_SIGNAL_OPTION = 1  # PR_SET_PDEATHSIG

HOW_TO_INSTALL = (
    "apt-get install tesseract-ocr tesseract-ocr-kor (Debian, Ubuntu) or brew install tesseract tesseract-lang (macOS)"
)


class Unreadable(Exception):  # noqa: N818 - an answer, not an error of ours
    """Tesseract failed on a picture. `ending`: its exit code or signal in words."""

    def __init__(self, ending: str) -> None:
        super().__init__(ending)
        self.ending = ending


@dataclass(frozen=True)
class Reader:
    """How this machine reads pictures of text. `languages` is "" if OCR is not available."""

    command: str
    version: str
    languages: str  # in Tesseract's notation, such as kor+eng
    missing: tuple[str, ...]  # requested languages that are not installed
    knows_orientation: bool  # whether the data for detecting a page's orientation is installed
    advice: str  # how to install what is missing; "" if nothing is

    @property
    def can_read(self) -> bool:
        return bool(self.languages)


def _no_reader(advice: str, missing: tuple[str, ...] = ()) -> Reader:
    return Reader("", "", "", missing, False, advice)


NO_READER = _no_reader("OCR is not set up here")


@dataclass(frozen=True)
class PictureText:
    """The text of a picture. `confidence`: Tesseract's own, in percent, as a mean over all characters."""

    text: str
    confidence: float
    sure_characters: int


def find_reader(mode: str, requested_languages: str) -> Reader:
    """Find out which of the requested languages are installed. Runs Tesseract once. `mode`: `auto` or `off`.

    `requested_languages` are in Tesseract's notation, such as kor+eng.
    """
    requested = requested_languages.split("+")
    if mode == "off":
        return _no_reader("OCR is switched off: set OFFLOAD_OCR=auto to use it")
    command = shutil.which("tesseract")
    if command is None:
        return _no_reader(f"Tesseract is not installed: {HOW_TO_INSTALL}", tuple(requested))
    try:
        about, _, languages = _query(command, "--version", "--list-langs").partition("List of available languages")
    except (OSError, subprocess.SubprocessError) as error:
        return _no_reader(f"{command} does not run ({type(error).__name__}): reinstall it", tuple(requested))
    version = about.partition("\n")[0].removeprefix("tesseract").strip()
    installed = set(languages.split("\n")[1:])
    usable = [language for language in requested if language in installed]
    missing = tuple(language for language in requested if language not in installed)
    advice = _language_advice(missing) if missing else ""
    return Reader(command, version, "+".join(usable), missing, "osd" in installed, advice)


def _language_advice(missing: tuple[str, ...]) -> str:
    packages = " ".join(f"tesseract-ocr-{language.replace('_', '-')}" for language in missing)
    which = f"{plural('language', len(missing))} {listed(missing)}"
    return (
        f"Tesseract lacks the {which}: apt-get install {packages} (Debian, Ubuntu) or brew install tesseract-lang "
        "(macOS), or set OFFLOAD_OCR_LANGUAGES to installed languages"
    )


def _query(command: str, *arguments: str) -> str:
    completed = subprocess.run(  # noqa: S603 - the program found on the PATH
        [command, *arguments], capture_output=True, timeout=QUERY_LIMIT_SECONDS, check=True
    )
    return completed.stdout.decode(errors="replace").strip()


def read(reader: Reader, picture: bytes, *, dpi: int | None = None, page: int = 0) -> PictureText:
    """Read the text of a picture (PNG, JPEG, TIFF, WebP, BMP, PNM). The picture is passed by a pipe, never as a file.

    `dpi`: if known. `page`: counts from 0 in a TIFF. Has no time limit; the parent of this process enforces one.
    Raises `Unreadable`.
    """
    first = _read_as(
        reader, picture, _PAGE_WITH_ORIENTATION if reader.knows_orientation else _PAGE_AS_IT_STANDS, dpi, page
    )
    if not _may_be_square(reader, first):
        return first
    column = _read_as(reader, picture, _ONE_COLUMN, dpi, page)
    return column if column.sure_characters > _BETTER_BY * first.sure_characters else first


def _may_be_square(reader: Reader, found: PictureText) -> bool:
    reads_square = any(language.startswith(_SQUARE_LANGUAGES) for language in reader.languages.split("+"))
    return reads_square and (found.confidence < _SURE_CONFIDENCE or _SQUARE_LETTER.search(found.text) is not None)


def _read_as(reader: Reader, picture: bytes, layout: str, dpi: int | None, page: int) -> PictureText:
    arguments = ["-", "-", "-l", reader.languages, "--psm", layout, "-c", f"tessedit_page_number={page}"]
    if dpi is not None:
        arguments += ["--dpi", str(dpi)]
    completed = subprocess.run(  # noqa: S603 - the program found on the PATH
        [reader.command, *arguments, "tsv", "txt"],
        input=picture,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it may quote the picture's text
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},  # the extractors already use all cores
        preexec_fn=parent_death_signal(),
        check=False,
    )
    if completed.returncode < 0:
        raise Unreadable(signal.Signals(-completed.returncode).name)
    if completed.returncode:
        raise Unreadable(f"exit code {completed.returncode}")
    return _parsed(completed.stdout.decode("utf-8", errors="replace"))


def parent_death_signal() -> Callable[[], object] | None:
    """Return a function with which a child asks the kernel to kill it when its parent dies.

    Returns None on systems other than Linux. There the child's process group is killed instead.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: a forked child must not load a library
    return lambda: prctl(_DEATH_SIGNAL_OPTION, signal.SIGKILL)


def _parsed(output: str) -> PictureText:
    """Parse Tesseract's two outputs: a table with the confidence of each word, then the text."""
    lines = output.split("\n")
    end = next((number for number, line in enumerate(lines) if line.count("\t") != _TABLE_COLUMNS - 1), len(lines))
    words = [(float(cells[10]), len(cells[11].strip())) for cells in (line.split("\t") for line in lines[1:end])]
    read_words = [(confidence, length) for confidence, length in words if confidence >= 0 and length]
    characters = sum(length for _, length in read_words)
    return PictureText(
        text="\n".join(lines[end:]).replace("\f", "\n").strip(),
        confidence=sum(confidence * length for confidence, length in read_words) / characters if characters else 0.0,
        sure_characters=sum(length for confidence, length in read_words if confidence >= _SURE_CONFIDENCE),
    )
