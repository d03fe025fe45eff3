"""Tesseract: whether it is installed, in which languages it reads, and the text of one picture.

`find_reader` is for our side (doctor, status, scan), `read` for the extractor's child, whose death takes a Tesseract
at work along.
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

QUESTION_LIMIT_SECONDS = 10.0

# Layout analysis loses lines of text in square scripts (measured: 30 to 70 % of a Korean page's words, against 4 % read
# as one column), so their pages are also read as one column, and what reads more with confidence is taken.
_SQUARE_LANGUAGES = ("kor", "jpn", "chi_")
_SQUARE_LETTER = re.compile("[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af]")
_PAGE_WITH_ORIENTATION, _PAGE_AS_IT_STANDS, _ONE_COLUMN = "1", "3", "4"
_BETTER_BY = 1.1
_SURE = 60.0  # percent: a word that Tesseract is rather sure of
_TABLE_COLUMNS = 12
_DEATH_SIGNAL_OPTION = 1  # PR_SET_PDEATHSIG

HOW_TO_INSTALL = (
    "apt-get install tesseract-ocr tesseract-ocr-kor (Debian, Ubuntu) or brew install tesseract tesseract-lang (macOS)"
)


class Unreadable(Exception):  # noqa: N818 - an answer, not an error of ours
    """Tesseract did not get through a picture. `ending`: its exit code or signal in words."""

    def __init__(self, ending: str) -> None:
        super().__init__(ending)
        self.ending = ending


@dataclass(frozen=True)
class Reader:
    """How pictures of text are read on this machine. `languages` is "" where they are not read at all."""

    command: str
    version: str
    languages: str  # as Tesseract takes them: kor+eng
    missing: tuple[str, ...]  # languages that were wished for and are not installed
    knows_orientation: bool
    advice: str  # what to do for more; "" where nothing is missing

    @property
    def can_read(self) -> bool:
        return bool(self.languages)


NO_READER = Reader("", "", "", (), False, "OCR is not set up here")


@dataclass(frozen=True)
class PictureText:
    """What a picture says. `confidence`: percent, by Tesseract's own judgement, over all characters."""

    text: str
    confidence: float
    sure_characters: int


def find_reader(mode: str, wished_languages: str) -> Reader:
    """What is installed of what is wished for; asks Tesseract itself, twice. `mode`: `auto` or `off`."""
    wished = wished_languages.split("+")
    if mode == "off":
        return _no_reader("OCR is switched off: OFFLOAD_OCR=auto switches it on")
    command = shutil.which("tesseract")
    if command is None:
        return _no_reader(f"Tesseract is not installed: {HOW_TO_INSTALL}", tuple(wished))
    try:
        version = _ask(command, "--version").partition("\n")[0].removeprefix("tesseract").strip()
        installed = set(_ask(command, "--list-langs").split("\n")[1:])
    except (OSError, subprocess.SubprocessError) as error:
        return _no_reader(f"{command} does not run ({type(error).__name__}): install it again", tuple(wished))
    usable = [language for language in wished if language in installed]
    missing = tuple(language for language in wished if language not in installed)
    advice = _language_advice(missing) if missing else ""
    return Reader(command, version, "+".join(usable), missing, "osd" in installed, advice)


def _no_reader(advice: str, missing: tuple[str, ...] = ()) -> Reader:
    return Reader("", "", "", missing, False, advice)


def _language_advice(missing: tuple[str, ...]) -> str:
    packages = " ".join(f"tesseract-ocr-{language.replace('_', '-')}" for language in missing)
    which = f"language{'s' if len(missing) > 1 else ''} {' and '.join(missing)}"
    return (
        f"Tesseract lacks the {which}: apt-get install {packages} (Debian, Ubuntu) or brew install tesseract-lang "
        "(macOS), or name others in OFFLOAD_OCR_LANGUAGES"
    )


def _ask(command: str, question: str) -> str:
    answered = subprocess.run(  # noqa: S603 - the program found on the PATH
        [command, question], capture_output=True, timeout=QUESTION_LIMIT_SECONDS, check=True
    )
    return answered.stdout.decode(errors="replace").strip()


def read(reader: Reader, picture: bytes, *, dpi: int | None = None, page: int = 0) -> PictureText:
    """The text of a picture (PNG, JPEG, TIFF, WebP, BMP, PNM), which nobody but Tesseract's own pipe sees.

    `dpi` where it is known, `page` counted from 0 in a TIFF. Sets no time limit: who waits for the page does.
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
    return reads_square and (found.confidence < _SURE or _SQUARE_LETTER.search(found.text) is not None)


def _read_as(reader: Reader, picture: bytes, layout: str, dpi: int | None, page: int) -> PictureText:
    arguments = ["-", "-", "-l", reader.languages, "--psm", layout, "-c", f"tessedit_page_number={page}"]
    if dpi is not None:
        arguments += ["--dpi", str(dpi)]
    ended = subprocess.run(  # noqa: S603 - the program found on the PATH
        [reader.command, *arguments, "tsv", "txt"],
        input=picture,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it may quote the picture
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},  # one extractor per core is what uses the cores
        preexec_fn=death_with_parent(),
        check=False,
    )
    if ended.returncode < 0:
        raise Unreadable(signal.Signals(-ended.returncode).name)
    if ended.returncode:
        raise Unreadable(f"exit code {ended.returncode}")
    return _parsed(ended.stdout.decode("utf-8", errors="replace"))


def death_with_parent() -> Callable[[], object] | None:
    """What a child calls to have the kernel end it with its parent; None where no kernel does (its group is killed)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork, where nothing may be
    return lambda: prctl(_DEATH_SIGNAL_OPTION, signal.SIGKILL)


def _parsed(output: str) -> PictureText:
    """Both of Tesseract's outputs: first a table with its confidence per word, then the text."""
    lines = output.split("\n")
    end = next((number for number, line in enumerate(lines) if line.count("\t") != _TABLE_COLUMNS - 1), len(lines))
    words = [(float(cells[10]), len(cells[11].strip())) for cells in (line.split("\t") for line in lines[1:end])]
    read_words = [(confidence, length) for confidence, length in words if confidence >= 0 and length]
    characters = sum(length for _, length in read_words)
    return PictureText(
        text="\n".join(lines[end:]).replace("\f", "\n").strip(),
        confidence=sum(confidence * length for confidence, length in read_words) / characters if characters else 0.0,
        sure_characters=sum(length for confidence, length in read_words if confidence >= _SURE),
    )
