"""Read EPUB books: the HTML pages of the book, in the order of its spine. Format specification: EPUB 3.3, W3C."""

import posixpath
import zipfile
from collections.abc import Iterator
from urllib.parse import unquote

from dagster_offload.extraction.formats.html import html_bytes_text
from dagster_offload.extraction.formats.parts.zip_xml import archive_text, attribute, local, parsed


def epub_text(data: bytes) -> str:
    """Return the text of an unprotected book. Raises `BrokenArchive`."""
    return archive_text(data, _pages)


def _pages(archive: zipfile.ZipFile) -> Iterator[str]:
    container = parsed(archive, "META-INF/container.xml")
    package = next(path for one in container.iter() if (path := attribute(one, "full-path")))
    root, folder = parsed(archive, package), posixpath.dirname(package)
    hrefs = {attribute(one, "id"): attribute(one, "href") or "" for one in root.iter() if local(one) == "item"}
    for reference in root.iter():
        if local(reference) == "itemref":
            page = posixpath.normpath(posixpath.join(folder, unquote(hrefs[attribute(reference, "idref")])))
            yield html_bytes_text(archive.read(page))
