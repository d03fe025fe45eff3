"""Tables with merged cells: each cell stays below the heading of its column, in every format."""

from dagster_offload.extraction.formats.parts.markdown import placed_table_text
from tests.extraction.formats import test_hwp as hwp
from tests.extraction.formats.test_office import open_document, paragraph, run, word


def test_cells_that_are_merged_keep_the_others_below_their_headings() -> None:
    def cell(text: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(run(text) if text else '')}</w:tc>"

    def row(*cells: str, before: int = 0) -> str:
        return f'<w:tr><w:trPr><w:gridBefore w:val="{before}"/></w:trPr>{"".join(cells)}</w:tr>'

    wide, first, covered = '<w:gridSpan w:val="2"/>', '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    table = (
        row(cell("Item", first), cell("2024", wide), cell("2025"))
        + row(cell("", covered), cell("Q1"), cell("Q2"), cell("Q1"))
        + row(cell("Rent"), cell("1"), cell("2"), cell("3"))
        + row(cell("6", wide), cell("3"), before=1)
    )
    assert word(f"<w:tbl>{table}</w:tbl>").split("\n") == [
        "| Item | 2024 |  | 2025 |",
        "| --- | --- | --- | --- |",
        "|  | Q1 | Q2 | Q1 |",
        "| Rent | 1 | 2 | 3 |",
        "|  | 6 |  | 3 |",
    ]


def test_repeated_and_covered_cells_of_an_open_document_table_keep_their_columns() -> None:
    def cell(text: str, repeated: int = 1, kind: str = "table-cell") -> str:
        return f'<table:{kind} table:number-columns-repeated="{repeated}"><text:p>{text}</text:p></table:{kind}>'

    rows = (cell("A") + cell("", kind="covered-table-cell") + cell("B"), cell("", repeated=2) + cell("c"))
    table = "".join(f"<table:table-row>{row}</table:table-row>" for row in rows)
    assert open_document(f"<table:table>{table}</table:table>") == "| A | B |\n| --- | --- |\n|  | c |"


def test_a_damaged_number_of_columns_counts_as_one() -> None:
    cells = (
        '<table:table-cell table:number-columns-repeated="x"><text:p>A</text:p></table:table-cell><table:table-cell/>'
    )
    row = f"<table:table-row>{cells}</table:table-row>"
    assert open_document(f"<table:table>{row}{row}</table:table>").startswith("| A |  |")


def test_a_table_with_hardly_any_cell_in_its_places_keeps_its_words() -> None:
    rows = [{column: str(column)} for column in range(20_000)]
    assert placed_table_text(rows).endswith("\n| 19999 |")


def test_a_cell_of_hwp_that_reaches_over_rows_keeps_the_columns_beside_it() -> None:
    cells = ((0, 0, "부서"), (1, 0, "월"), (2, 0, "수"), (1, 1, "1"), (2, 1, "7"))
    records = (hwp.cell(2, column, row, text) for column, row, text in cells)
    text = hwp.read(hwp.paragraph(0, ""), hwp.control(1, "tbl "), hwp.record(hwp.TABLE, 2), *records)
    assert text == "| 부서 | 월 | 수 |\n| --- | --- | --- |\n|  | 1 | 7 |"


def test_a_cell_of_hwpx_that_reaches_over_rows_keeps_the_columns_beside_it() -> None:
    def cell(column: int, text: str) -> str:
        return f'<tc><p><run><t>{text}</t></run></p><cellAddr colAddr="{column}"/></tc>'

    rows = (cell(0, "부서") + cell(1, "월") + cell(2, "수"), cell(1, "1") + cell(2, "7"))
    table = f"<tbl>{''.join(f'<tr>{row}</tr>' for row in rows)}</tbl>"
    assert hwp.hwpx(f"<p><run>{table}</run></p>") == "| 부서 | 월 | 수 |\n| --- | --- | --- |\n|  | 1 | 7 |"
