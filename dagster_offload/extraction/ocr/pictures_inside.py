"""Find the words of the pictures inside a document: metafiles hold them as text, other pictures need OCR."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster_offload.extraction.file_types.detection import detect_type
from dagster_offload.extraction.file_types.images import HEIC, is_whole_image, size_of_image
from dagster_offload.extraction.formats.office97.metafile import is_metafile, metafile_text
from dagster_offload.extraction.ocr.scans import PictureReader
from dagster_offload.text.counts import counted

# Smaller pictures are icons, bullets and lines.
_MIN_WIDTH, _MIN_HEIGHT, _MIN_PIXELS = 150, 30, 20_000


@dataclass(frozen=True)
class Words:
    """The words of each picture by its name, the number of pictures that OCR should read later, and metadata."""

    words: Mapping[str, str]
    unread: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)


def words_of_pictures(inside: Mapping[str, bytes], pictures: PictureReader) -> Words:
    """Return the words of the pictures `inside` a document, by their names."""
    found: dict[str, str] = {}
    to_read: dict[str, bytes] = {}
    for name, data in inside.items():
        if is_metafile(data):
            found[name] = metafile_text(data)
        elif _may_hold_words(data):
            to_read[name] = data
    if not to_read:
        return Words(found)
    reader = pictures.reader
    if not reader.can_read:
        reason = f"{counted(len(to_read), 'picture')} inside the document not read. {reader.advice}"
        return Words(found, len(to_read), {"reason": reason, "pages_to_ocr": len(to_read)})
    read = dict(zip(to_read, pictures.read_inside(list(to_read.values())), strict=True))
    metadata: dict[str, Any] = {"ocr_languages": reader.languages, "ocr_pages": len(to_read)}
    if any(read.values()):
        metadata["reason"] = (
            f"{counted(len(list(filter(None, read.values()))), 'picture')} inside the document read by OCR ({reader.languages})"
        )
    return Words(found | read, 0, metadata)


def _may_hold_words(data: bytes) -> bool:
    kind = detect_type(data) or ""
    if kind == HEIC or not is_whole_image(data, kind):  # no office program shows HEIC
        return False
    size = size_of_image(data, kind)
    if size is None:
        return True
    width, height = size
    return width >= _MIN_WIDTH and height >= _MIN_HEIGHT and width * height >= _MIN_PIXELS
