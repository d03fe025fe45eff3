"""Read EPUB books: the HTML pages of the book, in the order of its spine. Format specification: EPUB 3.3, W3C."""

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote

from dagster_offload.extraction.file_types.containers import OfficeArchive
from dagster_offload.extraction.formats.html import html_bytes_text
from dagster_offload.extraction.formats.parts.zip_xml import archive_text, attribute, local, parsed


def epub_text(data: bytes) -> str:
    """Return the text of an unprotected book. Raises `BrokenArchive`."""
    return archive_text(data, _pages)


def _pages(archive: OfficeArchive) -> Iterator[str]:
    container = parsed(archive, "META-INF/container.xml")
    package = next(path for one in container.iter() if (path := attribute(one, "full-path")))
    root, folder = parsed(archive, package), posixpath.dirname(package)
    hrefs = {attribute(one, "id"): attribute(one, "href") or "" for one in root.iter() if local(one) == "item"}
    spine = [hrefs.get(attribute(one, "idref"), "") for one in root.iter() if local(one) == "itemref"]
    pages = [posixpath.normpath(posixpath.join(folder, unquote(href))) for href in spine if href]
    found = [page for page in pages if archive.has(page)]  # many books list pages that they do not have
    if not found:
        raise LookupError("no page")
    for page in found:
        yield html_bytes_text(archive.read(page))
