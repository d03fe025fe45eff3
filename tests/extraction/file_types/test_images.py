"""Image files: which are complete, how large they are, and how the camera was held."""

import struct

import pytest

from dagster_offload.extraction.file_types.detection import detect_type
from dagster_offload.extraction.file_types.images import (  # fmt: skip
    BMP,
    GIF,
    HEIC,
    JPEG,
    PNG,
    TIFF,
    WEBP,
    is_heic,
    is_whole_image,
    orientation_of_jpeg,
    size_of_image,
    tiff_pages,
)


def box(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


HEIC_PICTURE = box(b"ftyp", b"mif1\0\0\0\0mif1heic") + box(b"meta", bytes(30)) + box(b"mdat", bytes(40))


def directory(**fields: int) -> bytes:
    """A directory of a TIFF with these tags, named as `tag256`."""
    entries = b"".join(struct.pack("<HHII", int(tag[3:]), 3, 1, value) for tag, value in fields.items())
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)


def photo(exif: bytes) -> bytes:
    """A JPEG with this content of its EXIF segment."""
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG_PICTURE[2:]


JPEG_PICTURE = (
    b"\xff\xd8\xff\xe0" + struct.pack(">H", 4) + b"JF" + b"\xff\xc0" + struct.pack(">HBHH", 8, 8, 300, 400) + b"\1"
    + b"\xff\xda\0\2" + bytes(20) + b"\xff\xd9"
)  # fmt: skip
PICTURES = {
    JPEG: (JPEG_PICTURE, (400, 300)),
    GIF: (b"GIF89a" + struct.pack("<HH", 64, 48) + bytes(20) + b"\x3b", (64, 48)),
    BMP: (b"BM" + bytes(8) + struct.pack("<IIii", 30, 40, 64, -48) + bytes(20), (64, 48)),
    TIFF: (directory(tag256=640, tag257=480), (640, 480)),
    HEIC: (HEIC_PICTURE, None),
    WEBP: (b"RIFF" + struct.pack("<I", 30) + b"WEBP" + bytes(26), None),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_cut_off_picture_is_told_from_a_whole_one(kind: str) -> None:
    data, size = PICTURES[kind]
    assert is_whole_image(data, kind)
    assert not is_whole_image(data[:20], kind)
    assert not is_whole_image(b"", kind)
    assert size_of_image(data, kind) == size


def test_a_png_is_whole_with_its_last_chunk_and_other_types_are_no_pictures() -> None:
    assert not is_whole_image(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(17), PNG)
    assert not is_whole_image(b"%PDF-1.7", "application/pdf")


def test_a_heic_picture_is_recognized_by_its_brands_and_an_avif_or_a_film_is_not() -> None:
    assert detect_type(HEIC_PICTURE) == HEIC
    assert is_heic(box(b"ftyp", b"heix\0\0\0\0mif1"))
    for other in (b"avif\0\0\0\0mif1avif", b"isom\0\0\2\0isommp42"):
        assert not is_heic(box(b"ftyp", other))
    assert not is_heic(b"\0\0\0\x18ftyp")


def test_data_that_a_phone_appends_does_not_make_a_heic_picture_broken() -> None:
    assert is_whole_image(HEIC_PICTURE + b"sefd and other data of the phone", HEIC)
    assert not is_whole_image(HEIC_PICTURE[:-1], HEIC)


@pytest.mark.parametrize(
    "appended",
    [b"\0\0\0\x18ftypmp42" + bytes(40), b"a film with \xff\xda somewhere in it", JPEG_PICTURE[:-1], bytes(9)],
    ids=["a film", "a film with the mark of a scan", "a second picture that is cut off", "zeros"],
)
def test_data_that_a_phone_appends_does_not_make_a_jpeg_broken(appended: bytes) -> None:
    assert is_whole_image(JPEG_PICTURE + appended, JPEG)


def test_a_jpeg_of_several_scans_is_whole_with_its_own_end_only() -> None:
    scan = b"\xff\xda\0\2" + b"\1\xff\0\xd9\xff\xd0\2"  # a stuffed zero, and a restart
    table = b"\xff\xc4" + struct.pack(">H", 6) + b"\xff\xd9\xff\xda"
    progressive = (
        JPEG_PICTURE.partition(b"\xff\xda")[0] + scan + table + scan + b"\xff"
    )  # bytes may fill up before a mark
    assert is_whole_image(progressive + b"\xff\xd9", JPEG)
    assert not any(is_whole_image(progressive[:length], JPEG) for length in range(len(progressive) + 1))


def test_the_end_of_a_thumbnail_is_not_the_end_of_its_photo() -> None:
    whole = photo(b"Exif\0\0" + JPEG_PICTURE)
    assert is_whole_image(whole, JPEG)
    assert not any(is_whole_image(whole[:length], JPEG) for length in range(len(whole)))


def test_a_damaged_byte_within_a_scan_does_not_make_a_jpeg_broken() -> None:
    assert is_whole_image(JPEG_PICTURE[:-12] + b"\xff\x37\xff\xff" + JPEG_PICTURE[-12:], JPEG)


def test_data_after_the_last_block_does_not_make_a_gif_broken() -> None:
    frame = b"!\xfe\x02hi\0,\0\0\0\0\1\0\1\0\x80" + bytes(6) + b"\x02\x02\x4c\x01\0"
    whole = b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + frame + b";"
    assert is_whole_image(whole, GIF)
    assert is_whole_image(whole + bytes(8), GIF)
    assert not any(is_whole_image(whole[:length], GIF) for length in range(len(whole)))


def test_the_size_of_a_tiff_holds_each_of_its_images() -> None:
    first, second = (struct.pack("<HHHII", 2, 256, 3, 1, width) + struct.pack("<HHII", 257, 3, 1, height)
                     for width, height in ((9000, 10), (640, 480)))  # fmt: skip
    data = b"II*\0" + struct.pack("<I", 8) + first + struct.pack("<I", 8 + len(first) + 4) + second + bytes(4)
    assert size_of_image(data, TIFF) == (9000, 480)


def test_links_without_a_picture_are_no_pages_of_a_tiff() -> None:
    links = b"".join(struct.pack("<HI", 0, 8 + 6 * number) for number in range(1, 50))
    empty = b"II*\0" + struct.pack("<I", 8) + links + struct.pack("<HI", 0, 0)
    assert tiff_pages(empty) == 1
    assert not is_whole_image(empty, TIFF)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_photo_is_read_from_its_exif(orientation: int) -> None:
    assert orientation_of_jpeg(photo(b"Exif\0\0" + directory(tag274=orientation))) == orientation


@pytest.mark.parametrize(
    "exif",
    [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + directory(tag274=77), b"http://ns.adobe.com"],
)
def test_a_photo_with_damaged_or_no_exif_counts_as_upright(exif: bytes) -> None:
    assert orientation_of_jpeg(photo(exif)) == 1
