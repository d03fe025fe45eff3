"""PDF pages written object by object: form values beside their labels, whole words, rows, each line once."""

import pypdfium2
import pytest

from dagster_offload.extraction import readers
from dagster_offload.extraction.formats.pdf import join_cut_words, pdf_text
from dagster_offload.extraction.formats.pdf_annotations import Letter, Note, insert_notes
from dagster_offload.extraction.formats.pdf_directions import in_reading_order
from dagster_offload.extraction.legibility import why_glyph_soup
from dagster_offload.extraction.ocr.page_images import PdfPages
from dagster_offload.extraction.ocr.scans import PictureReader
from dagster_offload.extraction.ocr.tesseract import Reader
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.extraction.refusals import FileRefused
from dagster_offload.stages.graph import Outcome
from tests.extraction.made_pdf import Page, line, lines, made_pdf, turned

TENANT = ("The tenant pays for the water used in the yard", "and gives back both keys on the last day of May.")


def text_of(*pages: Page, unicodes: dict[str, str] | None = None) -> list[str]:
    return list(pdf_text(made_pdf(*pages, unicodes=unicodes)).pages)


def widget(kind: str, rect: str, value: str) -> str:
    return f"/Subtype /Widget /FT /{kind} /T (field at {rect}) /Rect [{rect}] {value}"


def shown(text: str) -> str:
    return f"/Tx BMC BT /F1 12 Tf 2 5 Td ({text}) Tj ET EMC"


def test_a_filled_field_follows_its_label() -> None:
    labels = [line("Application for a parking permit", 72, 720), line("Name:", 72, 690), line("Plate:", 72, 660)]
    page = Page(
        "\n".join(labels),
        [
            (widget("Tx", "200 655 400 675", "/V (HX 7781)"), shown("HX 7781")),
            (widget("Tx", "200 685 400 705", "/V (Yuna Castellan)"), shown("Yuna Castellan")),
        ],
    )
    assert text_of(page) == ["Application for a parking permit\nName: Yuna Castellan\nPlate: HX 7781"]


def test_two_fields_of_one_line_each_follow_their_own_label() -> None:
    page = Page(
        line("From:", 72, 690) + "\n" + line("to:", 300, 690),
        [
            (widget("Tx", "330 685 400 705", "/V (Friday)"), ""),
            (widget("Tx", "110 685 200 705", "/V (Monday)"), ""),
        ],
    )
    assert " ".join(text_of(page)[0].split()) == "From: Monday to: Friday"


def test_a_field_that_is_hidden_or_empty_adds_nothing() -> None:
    page = Page(
        line("Name:", 72, 690),
        [
            (widget("Tx", "200 685 400 705", "/V (secret) /Flags 0").replace("/Flags 0", "/F 2 /X"), shown("secret")),
            (widget("Tx", "200 645 400 665", ""), ""),
        ],
    )
    assert text_of(page) == ["Name:"]


def test_a_ticked_box_differs_from_an_empty_one() -> None:
    states = "/AP << /N << /Yes 3 0 R /Off 3 0 R >> >>"
    page = Page(
        line("Dog", 100, 690) + "\n" + line("Cat", 100, 660),
        [
            (widget("Btn", "72 688 84 700", f"/V /Yes /AS /Yes {states}"), ""),
            (widget("Btn", "72 658 84 670", f"/V /Off /AS /Off {states}"), ""),
        ],
    )
    assert text_of(page) == ["[x] Dog\n[ ] Cat"]


def test_text_that_only_an_appearance_holds_is_read() -> None:
    """A signature has no value, a choice shows other text than its value, and a stamp has no text entry."""
    page = Page(
        line("Signed:", 72, 690),
        [
            (widget("Sig", "200 685 400 705", ""), shown("Digitally signed by Yuna")),
            ("/Subtype /Stamp /Rect [200 585 400 605]", shown("PAID 4 May")),
        ],
    )
    assert text_of(page) == ["Signed: Digitally signed by Yuna\nPAID 4 May"]


def test_a_note_is_read_at_its_position() -> None:
    note = "/Subtype /FreeText /Rect [72 600 400 620] /Contents (call back on Friday) /DA (/F1 12 Tf)"
    page = Page(line("Dear Sir", 72, 720) + "\n" + line("Yours", 72, 500), [(note, "")])
    assert text_of(page) == ["Dear Sir\ncall back on Friday\nYours"]


def test_a_lone_surrogate_is_dropped_and_the_other_text_is_kept() -> None:
    page = Page(lines("The yard +", "and both keys"))
    assert text_of(page, unicodes={"+": "D83D"}) == ["The yard\nand both keys"]
    assert text_of(page, unicodes={"+": "D83DDD11"}) == ["The yard \U0001f511\nand both keys"]


def test_right_to_left_words_come_in_reading_order() -> None:
    """The page draws the letters from left to right, so the last letter of the line comes first."""
    hebrew = {"a": "05DD", "b": "05D5", "c": "05DC", "d": "05E9"}
    assert text_of(Page(lines("abcd")), unicodes=hebrew) == ["שלום"]


def test_lines_whose_gaps_line_up_come_once() -> None:
    """A program that looks for tables takes such gaps for columns, and adds the text a second time as a table."""
    texts = ("in may the key is old", "on day the job is due", "if you can do it say")
    assert text_of(Page(lines(*texts))) == ["\n".join(texts)]


@pytest.mark.parametrize(
    ("cosine", "sine", "attributes"),
    [(-1, 0, ""), (-1, 0, "/Rotate 180"), (0.985, 0.174, ""), (0.985, -0.174, ""), (0, 1, ""), (0, -1, "/Rotate 90")],
)
def test_a_rotated_or_skewed_page_gives_the_same_text(cosine: float, sine: float, attributes: str) -> None:
    [text] = text_of(Page(turned(lines(*TENANT), cosine, sine), attributes=attributes))
    assert text == "\n".join(TENANT)


def test_a_word_hyphenated_at_a_line_end_is_joined() -> None:
    page = Page(lines("Here is the defi-", "nition of a self-", "contained and a left-", "handed Smith-", "Jones."))
    other = Page(lines("A self-contained flat."))
    first, _ = text_of(page, other)
    assert " ".join(first.split()) == "Here is the definition of a self-contained and a lefthanded Smith-Jones."


def test_a_compound_word_keeps_its_hyphen_at_a_line_end() -> None:
    assert join_cut_words(["left\ufffehanded and left-handed", "re\ufffeport 4\ufffe5 end\ufffe"]) == [
        "left-handed and left-handed",
        "report 4-5 end-",
    ]


def test_cells_of_a_row_are_separate_and_on_one_line() -> None:
    row = [line(f"{name}{number}", x, y) for y, number in ((700, 1), (680, 2)) for name, x in (("a", 72), ("b", 400))]
    [text] = text_of(Page("\n".join(row)))
    assert [line.split() for line in text.split("\n")] == [["a1", "b1"], ["a2", "b2"]]


def test_text_off_the_page_is_not_read() -> None:
    assert text_of(Page(line("seen", 72, 700) + "\n" + line("unseen", 72, -50))) == ["seen"]


def test_a_page_that_cannot_be_opened_is_counted_and_the_others_are_read() -> None:
    whole = made_pdf(Page(lines("first")), Page(lines("second")))
    found = pdf_text(whole.replace(b"/Kids [5 0 R 7 0 R]", b"/Kids [5 0 R 9 0 R]"))
    assert (found.pages, found.broken_pages) == (("first", ""), 1)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_a_truncated_file_is_broken_even_if_pdfium_could_repair_it(share: float) -> None:
    whole = made_pdf(Page(lines(*TENANT)), Page(lines(*TENANT)))
    with pytest.raises(FileRefused) as refused:
        pdf_text(whole[: int(len(whole) * share)])
    assert refused.value.code == "broken_file"
    updated = whole + b"9 0 obj\n<< /Length 5000 >>\nendobj\n"
    with pytest.raises(FileRefused):
        pdf_text(updated)


@pytest.mark.parametrize("hidden", ["5 0 obj", "4 0 obj"], ids=["page", "content"])
def test_a_table_with_a_wrong_offset_hides_no_text(hidden: str) -> None:
    whole = made_pdf(Page(lines("the whole letter")))
    start = b"%010d 00000 n" % whole.index(hidden.encode())
    found = pdf_text(whole.replace(start, b"0000000012 00000 n"))
    assert (found.pages, found.broken_pages) == (("the whole letter",), 0)


def test_a_scanned_page_with_a_wrong_offset_is_read_by_ocr_too(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made_pdf(Page(lines("the whole letter")), Page("0 0 595 842 re f " * 30))
    start = b"%010d 00000 n" % whole.index(b"7 0 obj")
    broken = whole.replace(start, b"0000000012 00000 n")
    read: list[bytes] = []
    monkeypatch.setattr(PictureReader, "read_pdf", lambda _self, data, _texts: read.append(data))
    pictures = PictureReader(Reader("", "", "", (), knows_orientation=False, advice=""), {}, lambda _: None)
    assert readers.read_file(broken, "a.pdf", "pdf", pictures).text == "the whole letter"
    assert len(pdf_text(read[0]).pages) == 2
    assert pdf_text(read[0]).broken_pages == 0
    assert PdfPages(read[0]).shows_anything(2)
    assert not PdfPages(broken).shows_anything(2)


def test_a_page_that_shows_something_is_not_repaired() -> None:
    scan = made_pdf(Page("0 0 595 842 re f"))
    assert pdf_text(scan).data == scan


def test_glyph_numbers_instead_of_letters_are_not_read_as_text() -> None:
    codes = {letter: f"{number:04x}" for number, letter in enumerate("ehilnrst", 3)}
    (text,) = text_of(Page(line("theresistheresnil", 72, 700)), unicodes=codes)
    assert why_glyph_soup(text) is not None
    assert set(text) == {"\ufffd"}


def test_a_bullet_without_a_letter_does_not_make_a_readable_page_unreadable() -> None:
    letters = {letter: f"{ord(letter):04x}" for letter in " ,adeghilnrst"}
    (text,) = text_of(Page(lines("XX read the letter, then sign it")), unicodes={"X": "0001"} | letters)
    assert text.strip() == "read the letter, then sign it"


def test_a_file_encrypted_for_a_certificate_is_refused_in_words() -> None:
    encryption = b"/Encrypt << /Filter /Adobe.PubSec /V 4 /SubFilter /adbe.pkcs7.s5 >> /Root"
    with pytest.raises(FileRefused) as refused:
        pdf_text(made_pdf(Page(lines("the whole letter"))).replace(b"/Root", encryption))
    assert (refused.value.code, "protected for a certificate" in refused.value.message) == ("password_protected", True)


def test_a_file_with_half_an_end_mark_is_whole() -> None:
    whole = made_pdf(Page(lines("the whole letter")))
    assert pdf_text(whole.removesuffix(b"%%EOF\n")).pages == ("the whole letter",)


def test_the_names_of_attached_files_are_listed() -> None:
    assert pdf_text(made_pdf(Page(lines("see the plan")), attached=["plan.xml"])).attached == ("plan.xml",)


def test_the_names_of_attached_files_follow_what_ocr_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PictureReader, "read_pdf", lambda *_: Extracted(Outcome.OK, "a scanned letter"))
    pictures = PictureReader(Reader("", "", "", (), knows_orientation=False, advice=""), {}, lambda _: None)
    read = readers.read_file(made_pdf(Page(""), attached=["plan.xml"]), "a.pdf", "pdf", pictures)
    assert read.text == "a scanned letter\n\nAttachments: plan.xml"


def test_an_attached_file_whose_name_cannot_be_read_costs_no_document(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(_: object) -> str:
        return b"\x00\xd8".decode("utf-16-le")

    monkeypatch.setattr(pypdfium2.PdfAttachment, "get_name", no_name)
    found = pdf_text(made_pdf(Page(lines("see the plan")), attached=["plan.xml"]))
    assert (found.pages, found.attached) == (("see the plan",), ())


def test_a_note_without_a_line_beside_it_follows_the_line_above() -> None:
    def written(text: str, x: float, y: float) -> list[Letter]:
        letters = [Letter(one, (x + 6 * index, y, x + 6 * index + 5, y + 9)) for index, one in enumerate(text)]
        return [*letters, Letter("\n", None)]

    letters = [*written("top", 72, 700), *written("bottom", 72, 300)]
    assert insert_notes([Note("note", (72, 490, 200, 510))], letters).split("\n") == ["top", "note", "bottom", ""]
    assert insert_notes([Note("note", (300, 695, 400, 715))], letters).split("\n") == ["top note", "bottom", ""]
    assert insert_notes([Note("note", (300, 100, 400, 120))], []) == "\nnote"


ARABIC = {"a": "0639", "b": "0642", "c": "062F", "x": "06440627", "n": "0646"}  # ain, qaf, dal, lam and alef, noon


def test_letters_that_a_browser_gives_as_it_draws_them_come_in_reading_order() -> None:
    """Each letter has its own text beside it, which PDFium does not turn."""
    drawn = "".join(f"/Span << /ActualText <FEFF{ARABIC[sign]}> >> BDC ({sign}) Tj EMC\n" for sign in "cba")
    assert text_of(Page(f"BT /F1 12 Tf 100 600 Td\n{drawn}ET"), unicodes=ARABIC) == ["عقد"]


def test_a_ligature_of_arabic_gives_its_letters_in_order() -> None:
    assert text_of(Page(lines("nxn")), unicodes=ARABIC) == ["نلان"]


def test_a_word_that_a_browser_hyphenates_is_joined() -> None:
    page = Page(lines("The ve+", "hicle in the West+", "Gate, day+time"))
    assert text_of(page, unicodes={"+": "2010"}) == ["The vehicle in the West-Gate, day‐time"]


def test_only_addresses_whose_parts_are_reversed_are_put_in_order() -> None:
    reversed_parts = "com.example@anna 12.50 a-b"

    def place_of(index: int) -> tuple[float, float]:
        for part, start in (("com", 13), (".", 12), ("example", 5), ("@", 4), ("anna", 0)):
            begin = reversed_parts.index(part)
            if begin <= index < begin + len(part):
                return float(start + index - begin), 0.0
        return 30.0 - index, 0.0

    assert in_reading_order(reversed_parts, place_of) == "anna@example.com 12.50 a-b"
    assert in_reading_order(reversed_parts, lambda _: None) == reversed_parts


@pytest.mark.parametrize(
    ("number", "rise", "size", "small", "shown"),
    [
        ("10", 5, 7, "6", "10⁶"), ("10", 5, 7, "-6", "10⁻⁶"), ("1,234", 4, 7, "1", "1,234¹"), ("5%", 5, 7, "2", "5%²"),
        ("10", -3, 7, "2", "102"), ("10", 0, 7, "6", "106"), ("10", 5, 12, "6", "106"),
    ],
)  # fmt: skip
def test_a_number_is_not_run_together_with_digits_that_are_raised_beside_it(
    number: str, rise: int, size: int, small: str, shown: str
) -> None:
    width = sum({",": 3.336, "%": 10.668}.get(sign, 6.672) for sign in number)  # in Helvetica, at 12 points
    above = f"{width} {rise} Td /F1 {size} Tf ({small}) Tj"
    content = f"BT /F1 12 Tf 72 700 Td ({number}) Tj {above} 9 {-rise} Td /F1 12 Tf (m) Tj ET"
    assert "".join(text_of(Page(content))[0].split()).startswith(shown)
