"""Read Office files as ZIP archives of XML: open one, parse its members, and follow their relationships."""

import contextlib
import html
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from dagster_offload.extraction.encodings.decoding import declared_encoding, decode
from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS, OfficeArchive

# References to entities of HTML, which XML does not have, or to characters that XML forbids; and such characters.
_REFERENCE = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos);)(#?\w{1,32});")
_LONE_AMPERSAND = re.compile(rb"&(?!#?\w{1,32};)")
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_DECLARATIONS = b"<!ENTITY"  # Office files have none, attacks do
_XML_DECLARATION = re.compile(r"^\s*<\?xml\b[^>]*\?>")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

_MAX_DIGITS = 18  # of a number
_COMPLETE = frozenset({"Id", "Type", "Target"})

T = TypeVar("T")
Relations = dict[str, tuple[str, str]]  # id -> relationship type, target member


class BrokenArchive(Exception):  # noqa: N818 - describes the input, not a fault of ours
    """The file is not an archive of the expected kind, or it is damaged."""


def archive_text(data: bytes, read: Callable[[OfficeArchive], Iterator[str]]) -> str:
    """Return the texts that `read` yields from the archive, joined by blank lines. Raises `BrokenArchive`."""
    try:
        with OfficeArchive(data) as archive:
            return "\n\n".join(text for text in read(archive) if text.strip())
    except DAMAGE_ERRORS as error:
        raise BrokenArchive(type(error).__name__) from None


def members_of(data: bytes, names: Iterable[str]) -> dict[str, bytes]:
    """Return the members of an archive with these names, without those that are missing or damaged."""
    found = {}
    with contextlib.suppress(*DAMAGE_ERRORS), OfficeArchive(data) as archive:
        for name in names:
            with contextlib.suppress(*DAMAGE_ERRORS):
                found[name] = archive.read(name)
    return found


def parsed(archive: OfficeArchive, member: str) -> Element:
    """Parse a member. Raises `KeyError` if there is no such member, and `SyntaxError` for malformed XML."""
    return parse(archive.read(member))


def parse(content: bytes) -> Element:
    """Parse XML, if necessary after a repair. Raises `SyntaxError` for malformed XML."""
    # Parsing untrusted XML is safe here: expat fetches nothing, and this process has time and memory limits.
    for prepared in (bytes, repaired):
        with contextlib.suppress(ElementTree.ParseError, ValueError, LookupError):  # the latter two: of its encoding
            return ElementTree.fromstring(prepared(content))  # noqa: S314
    return ElementTree.fromstring(repaired(_in_utf_8(content)))  # noqa: S314


def _in_utf_8(content: bytes) -> bytes:
    """Return XML in UTF-8. Expat knows no East Asian encoding, and refuses a text that declares a wrong one."""
    decoded = decode(content, declared_encoding(content))
    return content if decoded is None else _XML_DECLARATION.sub("", decoded.text, count=1).encode("utf-8", "replace")


def repaired(content: bytes) -> bytes:
    """Return XML without the faults that programs write and Office tolerates: undefined entities, control characters."""
    if content.startswith(_UTF_16) or _DECLARATIONS in content:
        return content
    return _LONE_AMPERSAND.sub(b"&amp;", _REFERENCE.sub(_resolved, _FORBIDDEN.sub(b"", content)))


def _resolved(reference: re.Match[bytes]) -> bytes:
    text = html.unescape(reference[0].decode("ascii", "replace"))
    if text.startswith("&"):  # no such entity: keep its name
        return b"&amp;" + reference[1] + b";"
    return _FORBIDDEN.sub(b"", text.encode("ascii", "xmlcharrefreplace")).replace(b"<", b"&lt;")


def parsed_if_there(archive: OfficeArchive, member: str) -> Element:
    """Parse a member. Returns an empty element if there is no such member."""
    return parsed(archive, member) if archive.has(member) else Element("nothing")


def local(element: Element) -> str:
    """Return the element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def attribute(element: Element, name: str) -> str | None:
    """Return an attribute by its name without its namespace, or None."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), None)


def int_or(text: str | None, otherwise: T) -> int | T:
    """Return the whole number in an attribute. `otherwise` stands for one that is missing or damaged."""
    return int(text) if text is not None and text.isdecimal() and len(text) <= _MAX_DIGITS else otherwise


def main_part(archive: OfficeArchive, usual: str) -> str:
    """Return the member that holds an Office Open XML document itself. Some programs do not give it its usual name."""
    with contextlib.suppress(*DAMAGE_ERRORS):  # of this list, which Office can do without
        for kind, member in relations(archive, "").values():
            if kind.endswith("/officeDocument") and archive.has(member):
                return member
    return usual


def relations(archive: OfficeArchive, member: str) -> Relations:
    """Return the internal relationships of a member of an Office Open XML file, "" for the file itself, by id.

    Leaves out damaged ones. Specification: ECMA-376 part 2.
    """
    folder, name = posixpath.split(member)
    return {
        one.attrib["Id"]: (one.attrib["Type"], _member(folder, one.attrib["Target"]))
        for one in parsed_if_there(archive, posixpath.join(folder, "_rels", f"{name}.rels"))
        if one.get("TargetMode") != "External" and _COMPLETE.issubset(one.keys())
    }


def _member(folder: str, target: str) -> str:
    return posixpath.normpath(posixpath.join("/", folder, target.replace("\\", "/")))[1:]
