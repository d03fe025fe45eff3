"""Photos: HEIC as iPhones store it, JPEG that was taken sideways, and pictures that would need gigabytes."""

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from dagster_offload.errors import ExtractionFailed
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.file_types.images import HEIC, JPEG
from dagster_offload.extraction.ocr import photos
from dagster_offload.extraction.ocr.photos import upright
from dagster_offload.extraction.ocr.scans import PictureReader
from dagster_offload.extraction.ocr.tesseract import NO_READER, Reader
from dagster_offload.extraction.readers import read_file
from dagster_offload.extraction.refusals import FileRefused
from dagster_offload.stages.graph import Outcome
from tests.support.ocr import SCANS, share_kept, tesseract

ORIENTATION = 0x0112
CAN_READ = Reader("tesseract", "5", "eng", (), knows_orientation=True, advice="")


@pytest.fixture(scope="module")
def reading() -> Iterator[Extractor]:
    with Extractor(reader=tesseract()) as extractor:
        yield extractor


def heic(picture: Image.Image, orientation: int = 1) -> bytes:
    """The picture as HEIC. The file says how to turn it, as an iPhone's photo does."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=60, exif=exif.tobytes())
    return file.getvalue()


def jpeg(picture: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


def stored(picture: Image.Image, orientation: int) -> Image.Image:
    """The pixels that a camera stores if the picture is seen upright with this EXIF orientation."""
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180], 4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    for turn in undo.get(orientation, []):
        picture = picture.transpose(turn)
    return picture


def scan(name: str) -> Image.Image:
    return Image.open(SCANS / name).convert("RGB")


def corners(data: bytes) -> list[int]:
    """The brightness at the upper left, upper right, lower left and lower right, in tenths."""
    picture = Image.open(io.BytesIO(data)).convert("L")
    right, low = picture.width - 5, picture.height - 5
    pixels, width = picture.tobytes(), picture.width
    return [round(pixels[y * width + x] / 25.5) for x, y in ((4, 4), (right, 4), (4, low), (right, low))]


def quarters() -> Image.Image:
    """A wide picture whose corners are black, dark gray, light gray and white."""
    picture = Image.new("RGB", (120, 80), "white")
    for grey, corner in ((0, (0, 0)), (102, (60, 0)), (178, (0, 40))):
        picture.paste((grey, grey, grey), (*corner, corner[0] + 60, corner[1] + 40))
    return picture


# Orientation


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_photo_is_turned_as_its_exif_says(orientation: int) -> None:
    assert corners(upright(jpeg(stored(quarters(), orientation), orientation), JPEG)) == [0, 4, 7, 10]


def test_a_photo_that_is_upright_is_not_touched() -> None:
    data = jpeg(quarters(), 1)
    assert upright(data, JPEG) is data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_photo_is_decoded_upright(orientation: int) -> None:
    assert corners(upright(heic(stored(quarters(), orientation), orientation), HEIC)) == [0, 4, 7, 10]


def test_a_damaged_photo_is_left_to_tesseract() -> None:
    data = jpeg(quarters(), 6)
    damaged = data[:300] + bytes(len(data) - 302) + data[-2:]
    assert upright(damaged, JPEG)


# Words


@pytest.mark.tesseract
def test_an_iphone_photo_of_a_letter_is_read(reading: Extractor, tmp_path: Path) -> None:
    (tmp_path / "IMG_0001.HEIC").write_bytes(heic(stored(scan("korean.png"), 6), 6))
    found = reading.extract(tmp_path / "IMG_0001.HEIC")
    assert found.outcome is Outcome.OK
    assert found.metadata["mime"] == "image/heic"
    assert share_kept(found.text, "korean.txt") > 0.9


@pytest.mark.tesseract
def test_a_korean_letter_photographed_sideways_is_read(reading: Extractor, tmp_path: Path) -> None:
    (tmp_path / "letter.jpg").write_bytes(jpeg(stored(scan("korean.png"), 6), 6))
    assert share_kept(reading.extract(tmp_path / "letter.jpg").text, "korean.txt") > 0.9


# What is missing, broken or too large


def test_a_heic_photo_needs_ocr_until_its_decoder_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(photos, "can_decode_heic", lambda: False)
    found = read_file(heic(quarters()), "a.heic", "heic", PictureReader(CAN_READ, {}, lambda _page: None))
    assert found.outcome is Outcome.NEEDS_OCR
    assert found.metadata["reason"] == (
        "this file is a picture. HEIC pictures need a decoder: pip install 'dagster-offload[heic]'"
    )
    both = read_file(heic(quarters()), "a.heic", "heic", PictureReader(NO_READER, {}, lambda _page: None))
    assert "OCR is not set up here. HEIC pictures need a decoder" in both.metadata["reason"]


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.99])
def test_a_truncated_heic_photo_is_broken(reading: Extractor, tmp_path: Path, keep: float) -> None:
    data = heic(quarters())
    (tmp_path / "cut.heic").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ExtractionFailed) as failed:
        reading.extract(tmp_path / "cut.heic")
    assert (failed.value.code, failed.value.is_final) == ("broken_file", True)
    assert "HEIC picture" in failed.value.message


def test_a_heic_photo_with_damaged_pixels_fails_alone(reading: Extractor, tmp_path: Path) -> None:
    data = heic(quarters())
    place = data.rindex(b"mdat") + 4
    (tmp_path / "a.heic").write_bytes(data[:place] + bytes(len(data) - place))
    (tmp_path / "b.txt").write_text("the next document")
    with pytest.raises(ExtractionFailed) as failed:
        reading.extract(tmp_path / "a.heic")
    assert failed.value.code == "broken_file"
    assert reading.extract(tmp_path / "b.txt").text == "the next document"


def png_that_says(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def heic_that_says(width: int, height: int) -> bytes:
    data = heic(quarters())
    place = data.index(b"ispe") + 8
    assert struct.unpack_from(">II", data, place) == (120, 80)
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("wide.png", png_that_says(40_000, 10), "unpacks_too_large"),
        ("huge.png", png_that_says(30_000, 30_000), "unpacks_too_large"),
        ("huge.heic", heic_that_says(30_000, 30_000), "unpacks_too_large"),
    ],
)
def test_a_picture_that_would_need_gigabytes_is_refused_before_it_is_decoded(
    reading: Extractor, tmp_path: Path, name: str, data: bytes, code: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ExtractionFailed) as failed:
        reading.extract(tmp_path / name)
    assert (failed.value.code, failed.value.is_final) == (code, True)
    assert "save it smaller" in failed.value.message


def bmp(bits: int = 24, compression: int = 0) -> bytes:
    """A white BMP picture of Windows. With `compression` its pixels are not compressed, only said to be."""
    width, height = 40, 20
    pixels = b"\xff" * (width * bits // 8 * height)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def bmp_of_os2() -> bytes:
    pixels = b"\xff" * (40 * 3 * 20)
    return b"BM" + struct.pack("<IHHI", 26 + len(pixels), 0, 0, 26) + struct.pack("<IHHHH", 12, 40, 20, 1, 24) + pixels


def webp(*, is_animated: bool) -> bytes:
    file = io.BytesIO()
    more = [quarters().rotate(90)] if is_animated else []
    quarters().save(file, "WEBP", save_all=is_animated, append_images=more)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "variant"),
    [
        ("packed.bmp", bmp(bits=8, compression=1), "a compressed BMP picture"),
        ("masks.bmp", bmp(bits=32, compression=3), "a compressed BMP picture"),
        ("old.bmp", bmp_of_os2(), "a BMP picture of OS/2"),
        ("moving.webp", webp(is_animated=True), "an animated WebP picture"),
    ],
)
def test_a_picture_that_tesseract_cannot_decode_is_refused_in_words(name: str, data: bytes, variant: str) -> None:
    with pytest.raises(FileRefused) as refused:
        read_file(data, name, name.rpartition(".")[2], PictureReader(CAN_READ, {}, lambda _page: None))
    assert (refused.value.code, refused.value.is_final) == ("unsupported_type", True)
    assert refused.value.message == f"{variant} is not supported: save it as PNG"


@pytest.mark.tesseract
@pytest.mark.parametrize(("name", "form"), [("letter.bmp", "BMP"), ("letter.webp", "WEBP")])
def test_a_plain_bmp_or_webp_picture_is_read(reading: Extractor, tmp_path: Path, name: str, form: str) -> None:
    scan("korean.png").save(tmp_path / name, form)
    assert share_kept(reading.extract(tmp_path / name).text, "korean.txt") > 0.9


def test_a_photo_of_many_pixels_is_made_smaller_for_tesseract(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 20_000
    monkeypatch.setattr(photos, "MAX_PIXELS", most)
    picture = Image.new("L", (210, 150), "white")
    for data, kind in ((jpeg(picture, 3), JPEG), (heic(picture), HEIC)):
        shown = Image.open(io.BytesIO(upright(data, kind)))
        assert 0.9 * most < shown.width * shown.height <= 1.02 * most
        assert shown.width / shown.height == pytest.approx(1.4, abs=0.02)
