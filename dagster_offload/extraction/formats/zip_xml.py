"""Office files as what they are: ZIP archives of XML members. Opening one, its members, what they refer to."""

import io
import posixpath
import zipfile
from collections.abc import Callable, Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from dagster_offload.extraction.file_types import DAMAGE

Relations = dict[str, tuple[str, str]]  # id -> type of relation, other member


class BrokenArchive(Exception):  # noqa: N818 - says what the file is
    """The file is no archive of the kind that was asked for, or a damaged one."""


def archive_text(data: bytes, read: Callable[[zipfile.ZipFile], Iterator[str]]) -> str:
    """What `read` finds in the archive, blank lines between. Raises `BrokenArchive`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return "\n\n".join(text for text in read(archive) if text.strip())
    except DAMAGE as error:
        raise BrokenArchive(type(error).__name__) from None


def parsed(archive: zipfile.ZipFile, member: str) -> Element:
    # Why it may be parsed here: expat fetches nothing, and this process has limits of time and memory.
    return ElementTree.fromstring(archive.read(member))  # noqa: S314


def parsed_if_there(archive: zipfile.ZipFile, member: str) -> Element:
    """The member's root, an empty element where there is no such member."""
    return parsed(archive, member) if member in archive.namelist() else Element("nothing")


def local(element: Element) -> str:
    """The element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def attribute(element: Element, name: str) -> str | None:
    """An attribute by its name without its namespace."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), None)


def relations(archive: zipfile.ZipFile, member: str) -> Relations:
    """What a member of an Office Open XML file refers to inside it, by id (ECMA-376 part 2)."""
    folder, name = posixpath.split(member)
    return {
        one.attrib["Id"]: (one.attrib["Type"], _member(folder, one.attrib["Target"]))
        for one in parsed_if_there(archive, f"{folder}/_rels/{name}.rels")
        if one.get("TargetMode") != "External"
    }


def _member(folder: str, target: str) -> str:
    return target[1:] if target.startswith("/") else posixpath.normpath(f"{folder}/{target}")
