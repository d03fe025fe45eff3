"""The types of documents, and their keys: relative POSIX paths in Unicode NFC.

This module does not access the file system. `left_out` decides which files are not documents, `walk` lists a library, `handles`
opens its files, and `digests` reads them.
"""

import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# Source code, which is read as plain text.
CODE_TYPES = frozenset(
    """
    py pyi js mjs cjs jsx ts tsx java kt kts scala groovy c h cc cpp cxx hh hpp m mm cs fs vb go rs rb php pl pm lua r jl
    swift dart ex exs erl hs ml clj sh bash zsh fish ps1 bat cmd sql graphql proto toml ini css scss less vue svelte
    """.split()  # noqa: SIM905 - a list of quoted words is no easier to read
)

# The types that are documents. A file without an extension is read as plain text unless its bytes show another type.
DOCUMENT_TYPES = CODE_TYPES | frozenset(
    """
    txt text md markdown mdx rst adoc asciidoc org tex typ html htm xhtml mht mhtml xml json yaml yml csv tsv srt vtt
    pdf rtf doc docx docm dot dotx dotm xls xlsx xlsm xlsb xlt xltx xltm ppt pptx pptm pps ppsx ppsm pot potx potm
    odt ods odp odg odm ott ots otp otg fodt fods fodp fodg hwp hwpx pages numbers key
    epub fb2 ipynb eml emlx msg mbox mbx ics vcf png jpg jpeg tif tiff bmp gif webp heic heif hif
    """.split()  # noqa: SIM905 - a list of quoted words is no easier to read
)

# Keys are indexed in Postgres, whose index rows hold at most 2,704 bytes.
MAX_KEY_BYTES = 2_000

_EXTENSION = re.compile(r"\.([a-z0-9]{1,10})$", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")  # Python's form of the bytes of a name that is not UTF-8
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # the last two also end lines


class FileStat(NamedTuple):
    """A document's file and its metadata in the file system. Times are in nanoseconds since 1970.

    This is a tuple and not a dataclass because a library may hold 100,000 of them.
    """

    key: str
    name: str  # the path below the library as the file system spells it; the key is its normal form
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    library: str

    @property
    def location(self) -> str:
        """The absolute path as a string."""
        return os.path.join(self.library, self.name)

    @property
    def path(self) -> Path:
        """The absolute path."""
        return Path(self.location)

    @property
    def seen(self) -> "SeenFile":
        """The state of the file, to compare with a later one."""
        return self.key, self.size, self.mtime_ns, self.ctime_ns, self.inode


# The state of a document's file: key, size, mtime_ns, ctime_ns, inode.
SeenFile = tuple[str, int, int, int, int]


def seen_as(key: str, status: os.stat_result) -> SeenFile:
    """Return the state of a file, in numbers that fit Postgres's bigint (64 bits). It differs if the file changed."""
    return key, status.st_size, _bigint(status.st_mtime_ns), _bigint(status.st_ctime_ns), status.st_ino % 2**63


def _bigint(nanoseconds: int) -> int:
    """Clamp a time to 64 bits, which hold times from 1677 to 2262."""
    return max(-(2**63), min(nanoseconds, 2**63 - 1))


@dataclass(frozen=True)
class UnusableName:
    """A file whose name cannot be a key. `name` is unique, and escaped so that it can be printed and stored."""

    name: str
    reason: str


def extension(name: str) -> str:
    """Return the lower-case extension without its dot, or `""`.

    An extension is short ASCII text that is not a number: `report.2024` and `보고서.최종` have none.
    """
    match = _EXTENSION.search(name, 1)
    return "" if match is None or match[1].isdigit() else match[1].lower()


def normal_form(path: str) -> str:
    """Return a path in Unicode NFC, the form of keys."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def has_one_spelling(key: str) -> bool:
    """Whether no other name has this key as its normal form: that is true of ASCII, except for three characters.

    The Kelvin sign becomes `K`, the Greek question mark `;`, and the Greek varia a backtick.
    """
    return key.isascii() and "K" not in key and ";" not in key and "`" not in key


def printable(name: str) -> str:
    """Escape `name` so that it can be printed and stored. Unique for each name, with at most 700 characters."""
    escaped = "".join(_escape(character) for character in name)
    if len(escaped) > 700:
        mark = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
        return f"{escaped[:500]}[... {mark} ...]{escaped[-150:]}"
    return escaped


def cannot_be_shown(name: str) -> bool:
    """Whether `name` cannot be printed or stored unescaped: it is not UTF-8 or contains a control character."""
    return bool(_SURROGATE.search(name) or _CONTROL.search(name))


def why_unusable(key: str) -> str | None:
    """Return why a path cannot be a key, or None if it can."""
    if _SURROGATE.search(key):
        return "it is not UTF-8"
    if _CONTROL.search(key):
        return "it contains a control character"
    if "..." in key:
        return "it contains '...', which Dagster reads as a range of partitions"
    if len(key) * 4 > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES:
        return f"it is longer than {MAX_KEY_BYTES} bytes"
    return None


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if "\udc80" <= character <= "\udcff":  # one byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
