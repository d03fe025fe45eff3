"""Turn photos into pictures that Tesseract reads well: HEIC decoded, and JPEG turned as its EXIF orientation says.

HEIC needs the package pillow-heif (the extra `heic`). PDFium turns JPEG, because it is a dependency already.
"""

import importlib.util
import io

import pypdfium2

from dagster_offload.extraction.file_types.images import (
    HEIC,
    JPEG,
    orientation_of_jpeg,
    size_of_image,
    why_not_decodable,
)
from dagster_offload.extraction.ocr.page_images import MAX_PIXELS, grey_picture, pgm
from dagster_offload.extraction.refusals import FileRefused, broken, unsupported

_MAX_SIDE = 32_767  # Tesseract's limit, in pixels
_MAX_DECODED_PIXELS = 250_000_000  # a poster of A0 at 300 dots per inch has 140 million
_DAMAGED_HEIC = (ValueError, EOFError, SyntaxError, RuntimeError)
HOW_TO_READ_HEIC = "HEIC pictures need a decoder: pip install 'dagster-offload[heic]'"
# The quarter turns, clockwise, and whether the picture is mirrored first, of each EXIF orientation that is not upright.
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (1, False), 7: (1, True), 8: (3, False)}


def can_decode_heic() -> bool:
    """Whether the optional decoder is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def upright(data: bytes, kind: str) -> bytes:
    """Return a picture that is upright and of a type that Tesseract reads, or `data` if it is both already.

    Raises `FileRefused` if a HEIC picture is broken, and `ImportError` if its decoder is not installed.
    """
    if kind == HEIC:
        return _decoded_heic(data)
    orientation = orientation_of_jpeg(data) if kind == JPEG else 1
    if orientation == 1:
        return data
    try:
        return _turned(data, orientation)
    except pypdfium2.PdfiumError:
        return data  # Tesseract may read it, or reports the damage


def refuse_undecodable(data: bytes, kind: str) -> None:
    """Raise `FileRefused` for a whole picture of a variant that Tesseract cannot decode."""
    if variant := why_not_decodable(data, kind):
        raise unsupported(f"{variant} is not supported: save it as PNG")


def refuse_huge(data: bytes, kind: str) -> None:
    """Raise `FileRefused` for a picture that Tesseract cannot read, or that would need gigabytes once decoded."""
    width, height = _size(data, kind) or (0, 0)
    if max(width, height) > _MAX_SIDE or width * height > _MAX_DECODED_PIXELS:
        limit = f"{_MAX_DECODED_PIXELS // 10**6} million pixels and {_MAX_SIDE:,} on each side"
        message = (
            f"the picture has {width:,} x {height:,} pixels, and the limit is {limit}: save it smaller or in parts"
        )
        raise FileRefused("unpacks_too_large", message, is_final=True)


def _size(data: bytes, kind: str) -> tuple[int, int] | None:
    if kind != HEIC:
        return size_of_image(data, kind)
    return _size_of_heic(data) if can_decode_heic() else None


def _size_of_heic(data: bytes) -> tuple[int, int] | None:
    """Return the width and height in pixels, or None if the decoder does not find them. Decodes no picture."""
    import pillow_heif

    try:
        width, height = pillow_heif.open_heif(io.BytesIO(data)).size
    except _DAMAGED_HEIC:
        return None
    return width, height


def _decoded_heic(data: bytes) -> bytes:
    import pillow_heif

    pillow_heif.options.DECODE_THREADS = 1  # the extractors already use all cores
    try:
        picture = pillow_heif.open_heif(io.BytesIO(data)).to_pillow()  # upright: libheif turns it
    except _DAMAGED_HEIC:
        raise broken(HEIC, data) from None
    except OSError as error:  # libheif found no memory
        raise MemoryError from error
    grey = picture.convert("L")
    if (pixels := grey.width * grey.height) > MAX_PIXELS:
        share = (MAX_PIXELS / pixels) ** 0.5
        grey = grey.resize((int(grey.width * share), int(grey.height * share)))
    return pgm(grey.width, grey.height, grey.tobytes())


def _turned(data: bytes, orientation: int) -> bytes:
    quarters, is_mirrored = _TURNS[orientation]
    document = pypdfium2.PdfDocument.new()
    picture = pypdfium2.PdfImage.new(document)
    picture.load_jpeg(io.BytesIO(data), inline=True)
    width, height = picture.get_px_size()
    if not width or not height:
        return data  # damaged
    across = pypdfium2.PdfMatrix(-width, 0, 0, height, width, 0)
    picture.set_matrix(across if is_mirrored else pypdfium2.PdfMatrix(width, 0, 0, height, 0, 0))
    page = document.new_page(width, height)
    page.insert_obj(picture)
    page.gen_content()
    page.set_rotation(90 * quarters)
    return grey_picture(page, min(1.0, (MAX_PIXELS / (width * height)) ** 0.5))
