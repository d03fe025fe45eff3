"""Web pages in mails and saved web pages (MHT): what a browser shows is read, and what it uses is not."""

import pytest

from dagster_offload.extraction.formats.html import html_text
from dagster_offload.extraction.formats.mail.eml import mail_text

PAGE = "--x\nContent-Type: text/html\nContent-Location: http://a.example/\n\n<html><body><p>The rent is due.</p></body></html>\n"


def as_text(kind: str, *parts: str) -> str | None:
    mail = f"Subject: s\nContent-Type: multipart/{kind}; boundary=x\n\n{''.join(parts)}--x--\n"
    return mail_text(mail.encode(), html_text)


def part(kind: str, content: str) -> str:
    return f"--x\nContent-Type: {kind}; charset=utf-8\nContent-Location: http://a.example/1\n\n{content}\n"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text/css", "body { color: #333 }"),
        ("text/javascript", "var page = 1;"),
        ("text/xml", "<o:MainFile HRef='page.htm'/>"),
        ("text/x-component", "<public:component/>"),
        ("TEXT/CSS", "p { margin: 0 }"),
    ],
)
def test_what_a_page_uses_without_showing_it_is_left_out(kind: str, content: str) -> None:
    assert as_text("related", PAGE, part(kind, content)) == "Subject: s\n\nThe rent is due."


def test_the_frames_and_the_texts_of_a_page_are_read() -> None:
    frame = part("text/html", "<p>in a frame</p>")
    assert as_text("related", PAGE, frame, part("text/plain", "a note")) == (
        "Subject: s\n\nThe rent is due.\n\nin a frame\n\na note"
    )


def test_a_saved_file_of_xml_is_read_if_it_is_what_was_saved() -> None:
    assert as_text("related", part("text/xml", "<rent>due</rent>"), part("text/css", "x {}")) == (
        "Subject: s\n\n<rent>due</rent>"
    )
    assert as_text("mixed", part("text/plain", "see below"), part("text/xml", "<rent>due</rent>")) == (
        "Subject: s\n\nsee below\n\n<rent>due</rent>"
    )


@pytest.mark.parametrize("kind", ["text/watch-html", "text/x-amp-html", "application/xhtml+xml"])
def test_a_page_of_another_type_is_read_as_a_page(kind: str) -> None:
    small = part(kind, "<b>The rent</b> is due.")
    assert as_text("alternative", small) == "Subject: s\n\nThe rent is due."
    long = "<style>" + "p { margin: 0 } " * 99 + "</style><p>The rent is due.</p>"
    plain = part("text/plain", "The rent is due.")
    assert as_text("alternative", plain, part(kind, long), PAGE) == "Subject: s\n\nThe rent is due."
