"""The text of a mail or a box of mails: headers a reader looks at, the body once, the names of what is attached.

The extractor reads every mail as UTF-8 and loses Korean ones, so the standard library takes mails apart and
`text_decoding` reads the parts. Attachments are named, not read.
"""

import re
from collections.abc import Callable
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Any

from dagster_offload.extraction.encodings import decode

# Every mail of a box begins with a line that begins so; a body's own such lines are quoted.
_MAIL_BEGINS = re.compile(rb"^From (?=[^\n]*\n[A-Za-z-]+:)", re.MULTILINE)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_HEAD_ENDS = re.compile(rb"\r?\n\r?\n")

LONGEST_HEADER = 20_000  # characters; a mail to 500 people has as many
_SHOWN = ("Subject", "From", "To", "Cc", "Date")


class _Mail(Message):
    """A mail that is read whatever its headers hold: a malformed parameter counts as missing, where `Message` raises."""

    def get_param(self, param: str, failobj: Any = None, header: str = "content-type", unquote: bool = True) -> Any:
        try:
            value = super().get_param(param, failobj, header, unquote)
            return collapse_rfc2231_value(value) if isinstance(value, tuple) else value
        except (TypeError, ValueError):  # pieces that cannot be put in order; a charset that nobody may look up
            return failobj


def mail_text(data: bytes, html_to_text: Callable[[str], str]) -> str | None:
    """The mail as text, or None where `data` is no mail."""
    message = message_from_bytes(data, _Mail)
    if not any(name in message for name in (*_SHOWN, "Content-Type", "Received")):
        return None
    return _message(message, html_to_text)


def mail_box_text(data: bytes, html_to_text: Callable[[str], str]) -> str | None:
    """All mails of a box (mbox, RFC 4155), a rule between them; None where `data` is no box."""
    if not data.startswith(b"From "):
        return None
    mails = [_QUOTED_FROM.sub(rb"\1", mail.partition(b"\n")[2]) for mail in _MAIL_BEGINS.split(data)[1:]]
    texts = [text for mail in mails if (text := _mail_of_box(mail, html_to_text)) is not None]
    return "\n\n---\n\n".join(texts) if texts else None


def subject(data: bytes) -> str:
    return _header(message_from_bytes(data, _Mail), "Subject")


def _mail_of_box(mail: bytes, html_to_text: Callable[[str], str]) -> str | None:
    try:
        return mail_text(mail, html_to_text)
    except RecursionError:  # mails in mails in mails: its own head must do, the box's others are still to be read
        return mail_text(_HEAD_ENDS.split(mail, maxsplit=1)[0], html_to_text)


def _message(message: Message, html_to_text: Callable[[str], str]) -> str:
    attached: list[str] = []
    head = [f"{name}: {_header(message, name)}" for name in _SHOWN if name in message]
    parts = ["\n".join(head), _body(message, html_to_text, attached)]
    if attached:
        parts.append("Attachments: " + ", ".join(attached))
    return "\n\n".join(part for part in parts if part.strip())


def _body(part: Message, html_to_text: Callable[[str], str], attached: list[str]) -> str:
    if part.get_content_type() == "message/rfc822":
        return "\n\n".join(_message(inner, html_to_text) for inner in _inner(part))
    if part.is_multipart():
        bodies = [_body(inner, html_to_text, attached) for inner in _inner(part)]
        if part.get_content_type() == "multipart/alternative":
            # The same text several times, plainest first (RFC 2046, 5.1.4).
            return next((body for body in bodies if body.strip()), "")
        return "\n\n".join(body for body in bodies if body.strip())
    if part.get_filename() is not None or part.get_content_disposition() == "attachment":
        attached.append(_file_name(part))
        return ""
    if part.get_content_maintype() != "text":
        return ""
    payload = part.get_payload(decode=True)
    decoded = decode(payload if isinstance(payload, bytes) else b"", _charset(part))
    if decoded is None:
        return ""
    return html_to_text(decoded.text) if part.get_content_subtype() == "html" else decoded.text


def _inner(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [inner for inner in payload if isinstance(inner, Message)] if isinstance(payload, list) else []


def _charset(part: Message) -> str | None:
    value = part.get_param("charset")
    return value if isinstance(value, str) else None


def _header(message: Message, name: str) -> str:
    value = message[name]
    if value is None:
        return ""
    try:
        # Bounded: the library looks for the end of an encoded word at every beginning of one.
        decoded_words = decode_header(value if len(str(value)) <= LONGEST_HEADER else str(value)[:LONGEST_HEADER])
    except HeaderParseError:  # says that it is encoded, and is not: its reader sees it as it stands
        decoded_words = [(str(value), None)]
    words = []
    for word, charset in decoded_words:
        if isinstance(word, str):
            words.append(word)
            continue
        decoded = decode(word, None if charset == "unknown-8bit" else charset)
        words.append(word.decode("ascii", "replace") if decoded is None else decoded.text)
    return " ".join("".join(words).split())


def _file_name(part: Message) -> str:
    name = part.get_filename()
    if name is None:
        return "(no name)"
    holder = Message()
    holder["Name"] = name.replace("\n", " ").replace("\r", " ")
    return _header(holder, "Name")
