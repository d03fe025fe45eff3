"""One line of what an error or a program says."""

from dagster_offload.text.lines import first_line, last_line


def test_the_first_line_of_an_error_is_there_also_without_a_message() -> None:
    assert first_line(OSError("the disk is full\nand more")) == "the disk is full"
    assert first_line(OSError()) == "no message"


def test_the_last_line_of_an_output_is_the_last_one_with_text() -> None:
    assert last_line("Traceback:\n  why\n\n") == "why"
    assert last_line("\n") == "no output"
