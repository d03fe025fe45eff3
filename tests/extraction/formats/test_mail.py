"""Mails are read once, with the visible text, in their own charsets."""

import base64
import quopri

import pytest

from dagster_offload.extraction.formats.html import html_text
from dagster_offload.extraction.formats.mail.eml import mail_box_text, mail_text, subject

KOREAN = "안녕하세요. 회의는 월요일입니다."


def as_text(data: bytes) -> str | None:
    return mail_text(data, lambda html: html.replace("<p>", "").replace("</p>", ""))


def encoded_word(text: str, charset: str) -> bytes:
    return f"=?{charset}?B?{base64.b64encode(text.encode(charset)).decode()}?=".encode()


def test_headers_and_body_are_read_in_their_own_charsets() -> None:
    for encoding, body in (
        (b"base64", base64.encodebytes(KOREAN.encode("cp949"))),
        (b"quoted-printable", quopri.encodestring(KOREAN.encode("cp949"))),
        (b"8bit", KOREAN.encode("cp949")),
    ):
        mail = (
            b"From: " + encoded_word("김보라", "euc-kr") + b" <bora@mail.example>\r\n"
            b"To: team@mail.example\r\nSubject: " + encoded_word("회의 안내", "utf-8") + b"\r\n"
            b"Content-Type: text/plain; charset=ks_c_5601-1987\r\n"
            b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body
        )
        text = as_text(mail)
        assert text is not None
        assert text.startswith(
            "Subject: 회의 안내\nFrom: 김보라 <bora@mail.example>\nTo: team@mail.example\n\n" + KOREAN
        )


@pytest.mark.parametrize("written", ["base64 ", " BASE64\t", "base64;", "base64 (of the gateway)", '"base64"'])
def test_the_name_of_the_encoding_is_known_however_it_is_written(written: str) -> None:
    body = base64.encodebytes(KOREAN.encode()).decode()
    mail = f"Subject: s\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: {written}\n\n{body}"
    assert as_text(mail.encode()) == f"Subject: s\n\n{KOREAN}"


def test_headers_without_any_encoding_are_still_read() -> None:
    mail = b"Subject: " + "회의 안내문".encode("cp949") + b"\nFrom: a@mail.example\n\nbody"
    assert subject(mail) == "회의 안내문"


def test_one_alternative_is_read_and_attachments_are_listed() -> None:
    mail = (
        b"From: a@mail.example\nSubject: two forms\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=m\n\n"
        b"--m\nContent-Type: multipart/alternative; boundary=a\n\n"
        b"--a\nContent-Type: text/plain\n\nthe plain form\n"
        b"--a\nContent-Type: text/html\n\n<p>the HTML form</p>\n--a--\n"
        b'--m\nContent-Type: application/pdf\nContent-Disposition: attachment; filename="offer.pdf"\n\nnothing\n--m--\n'
    )
    text = as_text(mail)
    assert text == "Subject: two forms\nFrom: a@mail.example\n\nthe plain form\n\nAttachments: offer.pdf"


def test_an_invitation_is_read_in_words() -> None:
    mail = (
        b"From: a@mail.example\nSubject: Council\nContent-Type: text/calendar; method=REQUEST\n\n"
        b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Council of May\nUID:4711\nEND:VEVENT\nEND:VCALENDAR\n"
    )
    text = as_text(mail)
    assert text is not None
    assert "Council of May" in text
    assert "4711" not in text


@pytest.mark.parametrize(("charset", "cut"), [("utf-8", 4), ("utf-8", 5), ("euc-kr", 3)])
def test_an_invitation_that_is_folded_within_a_character_is_read(charset: str, cut: int) -> None:
    value = "회의 안내".encode(charset)
    body = b"BEGIN:VEVENT\r\nSUMMARY:" + value[:cut] + b"\r\n " + value[cut:] + b"\r\nEND:VEVENT\r\n"
    head = f"Subject: s\nContent-Type: text/calendar; charset={charset}\nContent-Transfer-Encoding: base64\n\n"
    assert as_text(head.encode() + base64.encodebytes(body)) == "Subject: s\n\nEvent\nSummary: 회의 안내"


def test_the_html_form_is_read_if_the_plain_form_is_blank() -> None:
    mail = (
        b"Subject: s\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=a\n\n"
        b"--a\nContent-Type: text/plain\n\n \n--a\nContent-Type: text/html\n\n<p>only here</p>\n--a--\n"
    )
    assert as_text(mail) == "Subject: s\n\nonly here"


@pytest.mark.parametrize("kind", [b"message/rfc822", b"message/global"])
def test_a_forwarded_mail_is_read_with_its_own_headers(kind: bytes) -> None:
    mail = (
        b"Subject: Fwd\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=m\n\n"
        b"--m\nContent-Type: text/plain\n\nsee below\n"
        b"--m\nContent-Type: " + kind + b"\n\nSubject: inner\nFrom: b@mail.example\n\ninner body\n--m--\n"
    )
    text = as_text(mail)
    assert text is not None
    assert "see below" in text
    assert "Subject: inner\nFrom: b@mail.example\n\ninner body" in text


def test_data_that_is_not_a_mail_gives_none() -> None:
    assert as_text(b"just\nsome lines\n") is None


def test_a_mailbox_gives_all_mails_and_a_quoted_line_does_not_begin_one() -> None:
    box = (
        b"From a@example.org Tue Jun 18 10:12:00 2024\nSubject: one\n\nfirst\n>From here on\n\n"
        b"From me to you, it is late.\n\n"
        b"From b@example.org Tue Jun 18 10:13:00 2024\nSubject: two\n\nsecond\n"
    )
    text = mail_box_text(box, str)
    assert text is not None
    one, two = text.split("\n\n---\n\n")
    assert one.startswith("Subject: one\n\nfirst\nFrom here on\n\nFrom me to you, it is late.")
    assert two.startswith("Subject: two\n\nsecond")


@pytest.mark.parametrize("data", [b"", b"From me to you", b"Subject: a mail, no box\n\ntext"])
def test_data_that_is_not_a_mailbox_gives_none(data: bytes) -> None:
    assert mail_box_text(data, str) is None


def test_a_header_with_an_invalid_encoding_is_shown_unchanged() -> None:
    mail = b"Subject: Re: =?UTF-8?B?7ZWc6?=\n =?UTF-8?Q?roof?=\nFrom: a@mail.example\n\nbody"
    assert subject(mail) == "Re: =?UTF-8?B?7ZWc6?= =?UTF-8?Q?roof?="
    assert as_text(mail) == f"Subject: {subject(mail)}\nFrom: a@mail.example\n\nbody"


MALFORMED = {
    "base64 of no length": b"Subject: =?UTF-8?B?7ZWc6?=",
    "a charset that decodes nothing": b"Subject: =?undefined?Q?=FF?=",
    "a charset that is none of texts": b"Content-Type: text/plain; charset=base64",
    "a charset with a NUL": b"Content-Type: text/plain; charset=a\0b",
    "a parameter's charset with a NUL": b"Content-Type: text/plain; name*=a\0b''%ff",
    "a parameter's charset that decodes nothing": b"Content-Disposition: attachment; filename*=undefined''%ff",
    "a parameter whole and in pieces": b"Content-Type: text/plain; name*=x; name*0=y",
    "a parameter with a number beyond all": b"Content-Type: text/plain; name*" + b"9" * 5000 + b"=x",
    "a boundary with a NUL": b"Content-Type: multipart/mixed; boundary*=a\0b''x",
    "a date that is none": b"Date: Tue, 99 Foo 99999999999 99:99:99 +99999999",
    "an unknown encoding of the body": b"Content-Transfer-Encoding: \xff",
}


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_mail_of_a_mailbox_and_the_others_are_read(header: bytes) -> None:
    begin = b"From a@mail.example Tue Jun 18 10:12:00 2024\n"
    # The body is not UTF-8, so the header's charset is used.
    mails = [b"To: first\n\none\n", b"To: second\n" + header + b"\n\nt\xffo\n", b"To: third\n\nthree\n"]
    text = mail_box_text(b"".join(begin + mail for mail in mails), str)
    assert text is not None
    first, second, third = text.split("\n\n---\n\n")
    assert (first, third) == ("To: first\n\none\n", "To: third\n\nthree\n")
    assert "To: second" in second


def test_deeply_nested_mails_do_not_affect_the_other_mails_of_a_mailbox() -> None:
    begin = b"From a@mail.example Tue Jun 18 10:12:00 2024\n"
    deep = b"Subject: deep\n" + b"Content-Type: message/rfc822\n\n" * 2_000
    text = mail_box_text(begin + deep + b"\n" + begin + b"Subject: two\n\nsecond\n", str)
    assert text is not None
    assert "Subject: deep" in text
    assert text.endswith("Subject: two\n\nsecond\n")


def test_the_name_of_an_attachment_is_decoded_in_its_charset() -> None:
    mail = (
        b"Subject: s\nContent-Type: application/pdf\n"
        b"Content-Disposition: attachment; filename*=euc-kr''%C8%B8%C0%C7.pdf\n\nnothing"
    )
    assert as_text(mail) == "Subject: s\n\nAttachments: 회의.pdf"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_mail_that_was_saved_in_another_encoding_is_read(encoding: str) -> None:
    mail = f"Subject: 회의 안내\r\nContent-Type: text/plain; charset=euc-kr\r\n\r\n{KOREAN}\r\n".encode(encoding)
    assert as_text(mail) == f"Subject: 회의 안내\n\n{KOREAN}\r\n"
    assert subject(mail) == "회의 안내"


def test_mails_of_a_mailbox_without_headers_give_their_text() -> None:
    box = b"From a Mon Jun 01 10:00:00 2009\n\nfirst\n> quoted\n\nFrom b Mon Jun 01 11:00:00 2010\n\nsecond\nFrom here on\n"
    assert mail_box_text(box, str) == "first\n> quoted\n\n---\n\nsecond\nFrom here on"


def test_lines_of_a_mailbox_that_begin_like_a_mail_stay_in_their_mail() -> None:
    begin = b"From a@example.org Tue Jun 18 10:12:00 2024\n"
    box = (
        begin + b"Subject: one\n\nFrom 9:30 to 10:15 we meet\nNote: bring the key\n\n" + begin + b"Subject: two\n\nb\n"
    )
    text = mail_box_text(box, str)
    assert text is not None
    assert text.split("\n\n---\n\n")[0].endswith("From 9:30 to 10:15 we meet\nNote: bring the key\n\n")


def test_the_html_form_is_read_if_the_plain_form_only_refers_to_it() -> None:
    news = "The heating is serviced on Monday, and the lift stands still."
    mail = (
        "Subject: s\nContent-Type: multipart/alternative; boundary=a\n\n"
        "--a\nContent-Type: text/plain\n\nSee the web page.\n"
        f"--a\nContent-Type: text/html\n\n<p>{news}</p>\n--a--\n"
    )
    assert as_text(mail.encode()) == f"Subject: s\n\n{news}"


def test_an_invitation_beside_a_text_is_read_too() -> None:
    mail = (
        b"Subject: s\nContent-Type: multipart/alternative; boundary=a\n\n"
        b"--a\nContent-Type: text/plain\n\nPlease come.\n"
        b"--a\nContent-Type: text/html\n\n<p>Please come.</p>\n"
        b"--a\nContent-Type: text/calendar\n\nBEGIN:VCALENDAR\nBEGIN:VEVENT\nLOCATION:Room 4\nEND:VEVENT\n"
        b"END:VCALENDAR\n--a--\n"
    )
    text = as_text(mail)
    assert text is not None
    assert text.count("Please come.") == 1
    assert "Room 4" in text


PARTS = (
    "--x\nContent-Type: text/plain; charset=utf-8\n\nfür Köln\n"
    "--x\nContent-Type: text/html; charset=utf-8\n\n<p>für Köln</p>\n--x--\n"
)


@pytest.mark.parametrize("boundary", ["", "; boundary=y"])
def test_parts_are_read_if_the_header_names_no_boundary_or_a_wrong_one(boundary: str) -> None:
    mail = f"Subject: s\nContent-Type: multipart/alternative{boundary}\n\n{PARTS}"
    assert as_text(mail.encode()) == "Subject: s\n\nfür Köln"


def test_a_multipart_mail_without_parts_gives_its_text() -> None:
    assert (
        as_text(b"Subject: s\nContent-Type: multipart/mixed; boundary=x\n\nonly text\n") == "Subject: s\n\nonly text\n"
    )


def test_a_forwarded_mail_in_base64_is_read() -> None:
    inner = base64.encodebytes(b"Subject: inner\n\ninner body").decode()
    mail = f"Subject: s\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{inner}"
    assert as_text(mail.encode()) == "Subject: s\n\nSubject: inner\n\ninner body"


def test_a_report_names_the_recipient_and_the_state_of_delivery() -> None:
    mail = (
        b"Subject: s\nContent-Type: multipart/report; boundary=x\n\n"
        b"--x\nContent-Type: message/delivery-status\n\nReporting-MTA: mx\n\nFinal-Recipient: z@mail.example\n"
        b"Status: 5.1.1\n--x--\n"
    )
    assert as_text(mail) == "Subject: s\n\nReporting-MTA: mx\n\nFinal-Recipient: z@mail.example\nStatus: 5.1.1"


def test_a_text_with_a_file_name_that_mail_programs_show_is_read() -> None:
    mail = b'Subject: s\nContent-Type: text/plain; name="body.txt"\nContent-Disposition: inline\n\nthe letter\n'
    assert as_text(mail) == "Subject: s\n\nthe letter\n"
    assert as_text(mail.replace(b"inline", b"attachment")) == "Subject: s\n\nAttachments: body.txt"


def test_a_web_page_that_is_declared_as_plain_text_is_read_as_a_page() -> None:
    mail = b"Subject: s\nContent-Type: text/plain\n\n<!DOCTYPE html><html><body><p>words</p></body></html>"
    text = mail_text(mail, html_text)
    assert text == "Subject: s\n\nwords"


def test_blanks_after_a_soft_line_break_do_not_cut_a_word() -> None:
    mail = b"Subject: s\nContent-Transfer-Encoding: quoted-printable\n\nsub=\t\r\nject"
    assert as_text(mail) == "Subject: s\n\nsubject"


def test_blank_lines_before_the_headers_are_skipped() -> None:
    assert as_text(b"\r\nSubject: s\r\n\r\nbody") == "Subject: s\n\nbody"


@pytest.mark.parametrize(
    ("parameters", "body", "text"),
    [
        ("format=flowed", "one \r\nline\r\n> quo \r\n> ted\r\n-- \r\nAnna", "one line\n> quo ted\n-- \nAnna"),
        ("format=flowed; delsp=yes", "会議は金曜 \r\n日に\r\n", "会議は金曜日に\n"),
        ("charset=utf-8", "one \r\nline", "one \r\nline"),
    ],
)
def test_lines_that_the_senders_program_cut_are_joined(parameters: str, body: str, text: str) -> None:
    mail = f"Subject: s\r\nContent-Type: text/plain; {parameters}\r\n\r\n{body}"
    assert as_text(mail.encode()) == f"Subject: s\n\n{text}"


def test_a_boundary_that_is_not_ascii_costs_no_text() -> None:
    mail = (
        b"Subject: Rent\nContent-Type: multipart/mixed; boundary=wrong\n\n--caf\xe9\nContent-Type: text/plain\n\ndue\n"
    )
    assert (shown := as_text(mail)) is not None
    assert shown.startswith("Subject: Rent")
    assert "due" in shown


@pytest.mark.parametrize("kind", [b"Content-Type: pdf\n", b""])
def test_a_file_without_a_valid_content_type_is_listed_and_not_read(kind: bytes) -> None:
    part = kind + b"Content-Disposition: inline; filename=r.pdf\n\n%PDF-1.4 1 0 obj\n"
    mail = (
        b"Subject: Rent\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\ndue\n--b\n"
        + part
    )
    assert as_text(mail + b"--b--\n") == "Subject: Rent\n\ndue\n\nAttachments: r.pdf"


def test_a_line_that_begins_like_a_mail_and_names_a_time_stays_in_its_mail() -> None:
    begin = b"From a@example.org Tue Jun 18 10:12:00 2024\n"
    text = mail_box_text(begin + b"Subject: one\n\nFrom Monday at 10:30 the office is closed.\n\nRegards\n", str)
    assert text is not None
    assert text.endswith("From Monday at 10:30 the office is closed.\n\nRegards\n")
