"""Mails are read once, with the visible text, in their own charsets."""

import base64
import quopri

import pytest

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


def test_the_html_form_is_read_if_the_plain_form_is_blank() -> None:
    mail = (
        b"Subject: s\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=a\n\n"
        b"--a\nContent-Type: text/plain\n\n \n--a\nContent-Type: text/html\n\n<p>only here</p>\n--a--\n"
    )
    assert as_text(mail) == "Subject: s\n\nonly here"


def test_a_forwarded_mail_is_read_with_its_own_headers() -> None:
    mail = (
        b"Subject: Fwd\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=m\n\n"
        b"--m\nContent-Type: text/plain\n\nsee below\n"
        b"--m\nContent-Type: message/rfc822\n\nSubject: inner\nFrom: b@mail.example\n\ninner body\n--m--\n"
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
