"""Read what an archive says about itself: its title, its unpacked size, a preview of its pages."""

import html
import re

from dagster_offload.extraction.file_types.containers import OfficeArchive, head_of, is_archive, opened_archive

_TITLE = re.compile(rb"<dc:title\b[^>]*>([^<]*)</dc:title>")
_TITLE_HOLDERS = frozenset({"docProps/core.xml", "meta.xml"})

UNPACKED_LIMIT_BYTES = 1024**3


def title(data: bytes) -> str:
    """Return the title in an office file's properties, "" if it has none."""
    return (opened_archive(data, _archive_title) or "") if is_archive(data) else ""


def _archive_title(archive: OfficeArchive) -> str | None:
    holders = (name for name in archive.namelist() if name in _TITLE_HOLDERS or name.endswith(".opf"))
    properties = next(holders, None)
    found = _TITLE.search(head_of(archive, properties, 100_000)) if properties else None
    return None if found is None else html.unescape(found[1].decode("utf-8", "replace"))


def unpacked_bytes(data: bytes) -> int:
    """Return the declared unpacked size of a ZIP archive in bytes, 0 for other files."""
    if not is_archive(data):
        return 0
    return opened_archive(data, lambda archive: sum(member.file_size for member in archive.infolist())) or 0


def is_readable(data: bytes) -> bool:
    """Whether this is a ZIP archive whose list of members can be read."""
    return opened_archive(data, lambda _archive: True) or False


def iwork_preview(data: bytes) -> bytes | None:
    """Return the PDF preview inside a Pages, Numbers or Keynote document, or None if it has none."""
    return opened_archive(data, _preview)


def _preview(archive: OfficeArchive) -> bytes | None:
    previews = [name for name in archive.namelist() if name.lower() in ("quicklook/preview.pdf", "preview.pdf")]
    return archive.read(previews[0]) if previews else None
