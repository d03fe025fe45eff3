"""Check whether an image file is complete, measure it, and count the pages of a TIFF. Does not decode pictures."""

import re
import struct
from collections.abc import Callable, Iterator

PNG, JPEG, TIFF, BMP, GIF, WEBP = (f"image/{kind}" for kind in ("png", "jpeg", "tiff", "bmp", "gif", "webp"))
HEIC = "image/heic"

_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
# The end of a picture, or a segment that may come before it. Other bytes after 0xFF belong to a scan, or are damaged.
_JPEG_MARK = re.compile(rb"\xff([\xc0-\xc7\xc9-\xcf\xd9-\xdf\xe0-\xef\xfe])")
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # segments that begin with the picture's size
_PNG_HEADER_BYTES, _PNG_LAST_CHUNK = 8, b"IEND"
_GIF_HEADER_BYTES, _GIF_EXTENSION, _GIF_FRAME, _GIF_TRAILER = 13, 0x21, 0x2C, 0x3B
_MAX_TIFF_PAGES = 10_000
_MAX_TIFF_FIELDS = 1_000  # of one image; real images have fewer than a hundred
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_ORIENTATION = 256, 257, 274
_TIFF_SHORT = 3
_BMP_HEADER_BYTES = 40  # of Windows; the header of OS/2 has 12 and holds other fields
_WEBP_ANIMATED = 0x02
# HEIC pictures of one or more frames, with 8 bits a sample or more (ISO/IEC 23008-12). AVIF has the same container.
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis"})
_EXIF = b"Exif\0\0"


def is_whole_image(data: bytes, kind: str) -> bool:
    """Whether an image file is complete, as far as its structure shows. False for other types of file."""
    return kind in _CHECKS and _CHECKS[kind](data)


def size_of_image(data: bytes, kind: str) -> tuple[int, int] | None:
    """Return the width and height of a picture in pixels, or None if its header does not contain them."""
    try:
        if kind == PNG:
            return struct.unpack_from(">II", data, 16)
        if kind == GIF:
            return struct.unpack_from("<HH", data, 6)
        if kind == BMP:
            width, height = struct.unpack_from("<ii", data, 18)
            return abs(width), abs(height)
        if kind == TIFF:
            return _size_of_tiff(data)
        return _size_of_jpeg(data) if kind == JPEG else None
    except struct.error:
        return None


def why_not_decodable(data: bytes, kind: str) -> str | None:
    """Return what Tesseract cannot decode in a whole picture, or None if its header shows nothing of the kind."""
    if kind == BMP:
        (header,) = struct.unpack_from("<I", data, 14)
        if header < _BMP_HEADER_BYTES:
            return "a BMP picture of OS/2"
        return "a compressed BMP picture" if data[30:34] != bytes(4) else None
    if kind == WEBP:
        is_animated = data[12:16] == b"VP8X" and bool(data[20:21]) and bool(data[20] & _WEBP_ANIMATED)
        return "an animated WebP picture" if is_animated else None
    return None


def is_heic(data: bytes) -> bool:
    """Whether these are the first bytes of a HEIC picture."""
    if data[4:8] != b"ftyp":
        return False
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 200)]
    return any(brands[start : start + 4] in _HEIC_BRANDS for start in range(0, len(brands), 4))


def orientation_of_jpeg(data: bytes) -> int:
    """Return how the camera was held, as EXIF writes it: 1 (upright) to 8. Returns 1 if the file does not say."""
    try:
        exif = next(content for _, content in _jpeg_segments(data) if content.startswith(_EXIF))[len(_EXIF) :]
        order = _tiff_order(exif)
        fields = _tiff_fields(exif, struct.unpack_from(f"{order}I", exif, 4)[0], order)
    except (StopIteration, struct.error):
        return 1
    orientation = fields.get(_TIFF_ORIENTATION, 1)
    return orientation if 1 <= orientation <= 8 else 1


def _size_of_jpeg(data: bytes) -> tuple[int, int] | None:
    for marker, content in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, 1)
            return width, height
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the content of each segment before the picture itself. Raises `struct.error`."""
    offset = 2
    while offset + 9 < len(data) and data[offset] == 0xFF and data[offset : offset + 2] != _JPEG_SCAN:
        (size,) = struct.unpack_from(">H", data, offset + 2)
        yield data[offset + 1], data[offset + 4 : offset + 2 + size]
        offset += 2 + size


def _size_of_tiff(data: bytes) -> tuple[int, int] | None:
    """The smallest size that holds each of the images."""
    order = _tiff_order(data)
    fields = (_tiff_fields(data, offset, order) for offset in _tiff_offsets(data))
    sizes = [(image.get(_TIFF_WIDTH, 0), image.get(_TIFF_HEIGHT, 0)) for image in fields]
    return (max(width for width, _ in sizes), max(height for _, height in sizes)) if sizes else None


def _tiff_order(data: bytes) -> str:
    return "<" if data.startswith(b"II") else ">"


def _tiff_fields(data: bytes, offset: int, order: str) -> dict[int, int]:
    """Return the whole numbers in a directory of a TIFF, or of EXIF, by their tags."""
    (entries,) = struct.unpack_from(f"{order}H", data, offset)
    fields = {}
    for number in range(min(entries, _MAX_TIFF_FIELDS)):
        place = offset + 2 + 12 * number
        tag, kind = struct.unpack_from(f"{order}HH", data, place)
        (fields[tag],) = struct.unpack_from(f"{order}{'H' if kind == _TIFF_SHORT else 'I'}", data, place + 8)
    return fields


def _is_whole_png(data: bytes) -> bool:
    offset = _PNG_HEADER_BYTES
    while offset + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, offset)
        if data[offset + 4 : offset + 8] == _PNG_LAST_CHUNK:
            return True
        offset += 12 + size
    return False


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether the picture ends after a scan. A thumbnail is within a segment, and what phones append comes after the end."""
    offset, has_scan = 2, False
    while (mark := _JPEG_MARK.search(data, offset)) is not None:
        if mark[0] == _JPEG_END:
            return has_scan and data.startswith(b"\xff\xd8")
        has_scan = has_scan or mark[0] == _JPEG_SCAN
        offset = mark.end() + int.from_bytes(data[mark.end() : mark.end() + 2], "big")
    return False


def _is_whole_bmp(data: bytes) -> bool:
    return data.startswith(b"BM") and len(data) >= 26 and struct.unpack_from("<I", data, 10)[0] < len(data)


def _is_whole_gif(data: bytes) -> bool:
    """Whether the blocks of a GIF end with its trailer. Some programs append other data."""
    try:
        offset = _GIF_HEADER_BYTES + _size_of_gif_colors(data[10])
        while data[offset] != _GIF_TRAILER:
            if data[offset] == _GIF_EXTENSION:
                offset = _after_gif_blocks(data, offset + 2)
            elif data[offset] == _GIF_FRAME:
                offset = _after_gif_blocks(data, offset + 11 + _size_of_gif_colors(data[offset + 9]))
            else:  # padding between blocks, as decoders accept it
                offset += 1
    except IndexError:
        return False
    return data.startswith(b"GIF8")


def _size_of_gif_colors(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_gif_blocks(data: bytes, offset: int) -> int:
    while data[offset]:
        offset += data[offset] + 1
    return offset + 1


def _is_whole_webp(data: bytes) -> bool:
    return data[8:12] == b"WEBP" and struct.unpack_from("<I", data, 4)[0] + 8 <= len(data) + 1


def _is_whole_heic(data: bytes) -> bool:
    """Whether the file's boxes for the structure and for the pictures are complete. Phones append other data."""
    whole, offset = set[bytes](), 0
    while offset + 16 <= len(data):
        size, name = struct.unpack_from(">I4s", data, offset)
        if size == 1:  # the size is in 64 bits
            (size,) = struct.unpack_from(">Q", data, offset + 8)
        elif size == 0:  # the last box
            size = len(data) - offset
        if size < 8 or offset + size > len(data):
            break
        whole.add(name)
        offset += size
    return {b"meta", b"mdat"} <= whole


def tiff_pages(data: bytes) -> int:
    """Return how many complete images the TIFF holds, at least 1."""
    pages, is_whole = _tiff_chain(data)
    return max(pages if is_whole else pages - 1, 1)


def _is_whole_tiff(data: bytes) -> bool:
    """Whether the TIFF's chain of images is complete."""
    return _tiff_chain(data)[1]


def _tiff_chain(data: bytes) -> tuple[int, bool]:
    """Return how many images the chain has, and whether it is complete. A link without a width is no image."""
    links = 0
    try:
        for offset in _tiff_offsets(data):
            links += bool(_tiff_fields(data, offset, _tiff_order(data)).get(_TIFF_WIDTH))
    except struct.error:
        return links, False
    return links, bool(links)


def _tiff_offsets(data: bytes) -> Iterator[int]:
    """Yield where the directory of each image begins. Raises `struct.error` where the chain is cut."""
    order = _tiff_order(data)
    seen: set[int] = set()
    (offset,) = struct.unpack_from(f"{order}I", data, 4)
    while offset and offset not in seen and len(seen) < _MAX_TIFF_PAGES:
        seen.add(offset)
        yield offset
        (entries,) = struct.unpack_from(f"{order}H", data, offset)
        (offset,) = struct.unpack_from(f"{order}I", data, offset + 2 + 12 * entries)


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    PNG: _is_whole_png,
    JPEG: _is_whole_jpeg,
    TIFF: _is_whole_tiff,
    BMP: _is_whole_bmp,
    GIF: _is_whole_gif,
    WEBP: _is_whole_webp,
    HEIC: _is_whole_heic,
}
