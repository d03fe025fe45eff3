"""A damaged part costs an office document that part, not its text."""

import io
import zipfile

import pytest

from dagster_offload.extraction.formats.office import docx
from dagster_offload.extraction.formats.office.docx import docx_text
from dagster_offload.extraction.formats.office.office_xml import excel_2003_text, flat_word_text, word_2003_text
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive
from tests.extraction.formats.test_office import paragraph, run
from tests.extraction.formats.test_office_variants import document, related

ENCRYPTED = (
    b"MIME-Version: 1.0\r\nSubject: x\r\nContent-Type: multipart/encrypted; boundary=e\r\n\r\n--e\r\n\r\nx\r\n--e--\r\n"
)
DEEP = "<x>" * 5000 + "</x>" * 5000


def inserting(chunk: bytes | None, text: str = "") -> bytes:
    """A document that inserts a part, None for a part that is missing."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        body = (paragraph(run(text)) if text else "") + '<w:altChunk r:id="c"/>'
        new.writestr("word/document.xml", document(body))
        new.writestr("word/_rels/document.xml.rels", related(c=("aFChunk", "chunk.x")))
        if chunk is not None:
            new.writestr("word/chunk.x", chunk)
    return made.getvalue()


@pytest.mark.parametrize("chunk", [None, b"PK\3\4 cut off", ENCRYPTED], ids=["missing", "damaged", "encrypted"])
def test_an_inserted_part_that_cannot_be_read_costs_only_itself(chunk: bytes | None) -> None:
    assert docx_text(inserting(chunk, "Notice")) == "Notice"
    with pytest.raises(BrokenArchive):
        docx_text(inserting(chunk))


def test_documents_are_inserted_into_one_another_up_to_a_limit() -> None:
    data = inserting(b"Berth 4 is free")
    for _ in range(docx._MAX_INSERTED_DEPTH):
        data = inserting(data)
    assert docx_text(data) == "Berth 4 is free"
    assert docx_text(inserting(data, "Notice")) == "Notice"


def flat(*parts: str) -> bytes:
    return f'<p:package xmlns:p="http://schemas.microsoft.com/office/2006/xmlPackage">{"".join(parts)}</p:package>'.encode()


def test_a_damaged_picture_of_a_flat_document_costs_only_itself() -> None:
    text = f'<p:part p:name="/word/document.xml"><p:xmlData>{document(paragraph(run("Notice")))}</p:xmlData></p:part>'
    picture = '<p:part p:name="/word/media/a.png"><p:binaryData>QUJDR</p:binaryData></p:part>'
    assert flat_word_text(flat(picture, text)) == "Notice"


def test_xml_that_is_nested_too_deeply_is_broken() -> None:
    with pytest.raises(BrokenArchive):
        flat_word_text(flat(f'<p:part p:name="/word/document.xml"><p:xmlData>{DEEP}</p:xmlData></p:part>'))
    with pytest.raises(BrokenArchive):
        word_2003_text(f"<wordDocument><styles>{DEEP}</styles></wordDocument>".encode())


def test_a_cell_of_excel_2003_without_a_valid_number_shows_its_text() -> None:
    cells = "".join(f'<Cell><Data Type="Number">{number}</Data></Cell>' for number in ("7", "", "many"))
    book = f'<Workbook><Worksheet Name="Plan"><Table><Row>{cells}</Row></Table></Worksheet></Workbook>'
    assert excel_2003_text(book.encode()).split("\n")[2] == "| 7 | many |"


@pytest.mark.parametrize(
    "damage", ['Index="third"', 'Index=""', 'Index="-4"', f'Index="{"9" * 5000}"', 'MergeAcross="x"']
)
def test_a_damaged_column_number_of_excel_2003_costs_no_cell(damage: str) -> None:
    cells = f"<Cell><Data>a</Data></Cell><Cell {damage}><Data>b</Data></Cell><Cell><Data>c</Data></Cell>"
    book = f'<Workbook><Worksheet Name="Plan"><Table><Row>{cells}</Row></Table></Worksheet></Workbook>'
    assert excel_2003_text(book.encode()).split("\n")[2] == "| a | b | c |"
