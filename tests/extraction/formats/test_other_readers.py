"""How the output of kreuzberg for sheets and of office-oxide for old Office files is cleaned up."""

import pytest

from dagster_offload.extraction import file_types
from dagster_offload.extraction.formats import general, old_office
from dagster_offload.extraction.refusals import FileRefused


def test_slide_master_texts_and_slide_numbers_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    read = "## Slide 1\n\nBoiler\n\n## Slide 2\n\n## Slide Master\n\nClick to edit Master title style"
    monkeypatch.setattr(old_office, "_markdown", lambda _data, _kind: read)
    assert old_office.ppt_text(b"").split() == ["Boiler"]


@pytest.mark.parametrize("read", [old_office.doc_text, old_office.ppt_text, old_office.xls_text])
def test_other_data_is_refused_and_the_message_does_not_quote_it(read: object) -> None:
    assert callable(read)
    with pytest.raises(FileRefused) as refused:
        read(b"xylophone-4711")
    assert refused.value.code == "broken_file"
    assert "xylophone" not in refused.value.message


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("1899-12-31 09:30:00", "9:30"),
        ("1899-12-30 18:15:01", "18:15:01"),
        ("1899-12-31 00:00:00", "0:00"),
        ("2025-03-04 00:00:00", "2025-03-04"),
        ("2025-03-04 10:00:00", "2025-03-04 10:00:00"),
    ],
)
def test_a_time_in_a_sheet_has_no_day_and_a_day_has_no_time(cell: str, shown: str) -> None:
    class Result:
        content = f"| {cell} |"

    assert general.text_of(Result(), file_types.EXCEL) == f"| {shown} |"  # type: ignore[arg-type]
