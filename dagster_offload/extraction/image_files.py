"""Check whether an image file is complete, measure it, and count the pages of a TIFF. Does not decode pictures."""

import struct
from collections.abc import Callable

PNG, JPEG, TIFF, BMP, GIF, WEBP = (f"image/{kind}" for kind in ("png", "jpeg", "tiff", "bmp", "gif", "webp"))

_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # segments that begin with the picture's size
_PNG_HEADER_BYTES, _PNG_LAST_CHUNK = 8, b"IEND"
_MAX_TIFF_PAGES = 10_000


def is_whole_image(data: bytes, kind: str) -> bool:
    """Whether an image file is complete, as far as its structure shows. False for other types of file."""
    return kind in _CHECKS and _CHECKS[kind](data)


def size_of_image(data: bytes, kind: str) -> tuple[int, int] | None:
    """Return the width and height of a picture in pixels, or None if its header does not tell."""
    try:
        if kind == PNG:
            return struct.unpack_from(">II", data, 16)
        if kind == GIF:
            return struct.unpack_from("<HH", data, 6)
        if kind == BMP:
            width, height = struct.unpack_from("<ii", data, 18)
            return width, abs(height)
        return _size_of_jpeg(data) if kind == JPEG else None
    except struct.error:
        return None


def _size_of_jpeg(data: bytes) -> tuple[int, int] | None:
    offset = 2
    while offset + 9 < len(data) and data[offset] == 0xFF:
        if data[offset + 1] in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return width, height
        offset += 2 + struct.unpack_from(">H", data, offset + 2)[0]
    return None


def _is_whole_png(data: bytes) -> bool:
    offset = _PNG_HEADER_BYTES
    while offset + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, offset)
        if data[offset + 4 : offset + 8] == _PNG_LAST_CHUNK:
            return True
        offset += 12 + size
    return False


def _is_whole_jpeg(data: bytes) -> bool:
    # Cameras append other data. The end of a thumbnail comes before the picture's own scan.
    scan = data.find(_JPEG_SCAN)
    return data.startswith(b"\xff\xd8") and scan > 0 and data.rfind(_JPEG_END) > data.rfind(_JPEG_SCAN)


def _is_whole_bmp(data: bytes) -> bool:
    return data.startswith(b"BM") and len(data) >= 26 and struct.unpack_from("<I", data, 10)[0] < len(data)


def _is_whole_gif(data: bytes) -> bool:
    return data.startswith(b"GIF8") and b"\x3b" in data[-4:]


def _is_whole_webp(data: bytes) -> bool:
    return data[8:12] == b"WEBP" and struct.unpack_from("<I", data, 4)[0] + 8 <= len(data) + 1


def tiff_pages(data: bytes) -> int:
    """Return how many complete images the TIFF holds, at least 1."""
    pages, is_whole = _tiff_chain(data)
    return max(pages if is_whole else pages - 1, 1)


def _is_whole_tiff(data: bytes) -> bool:
    """Whether the TIFF's chain of images is complete."""
    return _tiff_chain(data)[1]


def _tiff_chain(data: bytes) -> tuple[int, bool]:
    """Return how many links the chain of images has, and whether it is complete."""
    order = "<" if data.startswith(b"II") else ">"
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack_from(f"{order}I", data, 4)
        while offset and offset not in seen and len(seen) < _MAX_TIFF_PAGES:
            seen.add(offset)
            (entries,) = struct.unpack_from(f"{order}H", data, offset)
            (offset,) = struct.unpack_from(f"{order}I", data, offset + 2 + 12 * entries)
    except struct.error:
        return len(seen), False
    return len(seen), bool(seen)


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    PNG: _is_whole_png,
    JPEG: _is_whole_jpeg,
    TIFF: _is_whole_tiff,
    BMP: _is_whole_bmp,
    GIF: _is_whole_gif,
    WEBP: _is_whole_webp,
}
