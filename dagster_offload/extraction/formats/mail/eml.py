"""Read a mail or a mailbox: the main headers, the body once, and the names of attachments.

The standard library parses the mail, and `encodings` decodes its parts. Attachments are listed by name and not read.
"""

import binascii
import codecs
import re
from collections.abc import Callable
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Any

from dagster_offload.extraction.encodings.decoding import declared_encoding, decode
from dagster_offload.extraction.formats.content_lines import entries_text
from dagster_offload.extraction.formats.mail.enriched import enriched_text
from dagster_offload.extraction.formats.mail.forms import chosen_form
from dagster_offload.extraction.formats.mail.secured import EncryptedMail, is_encrypted, is_smime, signed_content
from dagster_offload.extraction.formats.mail.tnef import is_tnef, tnef_text
from dagster_offload.extraction.formats.rtf import rtf_text

# Every mail of a mailbox begins with a `From ` line: with nothing else but a sender, or with a time and a year.
# Not all programs quote such lines of a body with `>`, so a header must follow, or a blank line if the mail has no
# header and the line has a time and a year. Bounded: the pattern backtracks.
_MAIL_BEGINS = re.compile(
    rb"^From (?=(?:\S*|(?=[^\n]{0,300}\d:\d\d)[^\n]{0,300}\b(?:19|20)\d\d\b[^\n]{0,300})\r?\n[A-Za-z-]+:"
    rb"|\S{1,200} [^\n]{0,100}\d\d:\d\d[^\n]{0,30}\b(?:19|20)\d\d\b[^\n]{0,20}\n\r?\n)",
    re.MULTILINE,
)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
# An attachment of a mail from before MIME stands in its text.
_UUENCODED = re.compile(r"^begin [0-7]{3,4} ([^\r\n]{1,200})\r?\n(?:[ -`]{1,62}\r?\n)++end\b", re.MULTILINE)
_CMS = b"\x30"  # how a signature begins that holds its mail
_HEAD_ENDS = re.compile(rb"\r?\n\r?\n")
_BOUNDARY = re.compile(rb'^--([^"\\\r\n]{1,70}?)[ \t]*\r?\n(?=Content-)', re.MULTILINE | re.IGNORECASE)
# Some gateways add blanks after the sign that joins two lines (quoted-printable). Elsewhere such blanks mean nothing.
_BLANKS_AFTER_SOFT_BREAK = re.compile(rb"=[ \t]++(?=\r?\n)")
_ENCODING, _ENCODING_NAME = "Content-Transfer-Encoding", re.compile(r"[\w-]+")
_HTML_PAGE = re.compile(r"\s*+<(?:!doctype html|html)\b", re.IGNORECASE)
_SHOWN_TYPES = frozenset({"text/plain", "text/html"})
_MAILS = frozenset({"message/rfc822", "message/global"})  # the latter with headers in UTF-8 (RFC 6532)
# What a machine says about a mail, in fields: whether it arrived, was read, or is unwanted (RFC 3464, 8098, 5965).
_REPORTS = frozenset({"message/delivery-status", "message/disposition-notification", "message/feedback-report"})
_RTF, _RTF_BEGINS = frozenset({"application/rtf", "application/x-rtf", "text/rtf"}), b"{\\rtf"
_ENRICHED = frozenset({"text/enriched", "text/richtext"})
_PAGES = frozenset({"text/html", "text/x-amp-html", "text/watch-html", "application/xhtml+xml"})
_READ_WITHIN_PAGES = _PAGES | {"text/plain", "text/calendar"}  # of a mail or saved page with all that it refers to

MAX_HEADER_CHARACTERS = 20_000  # enough for 500 recipients
_MOST_HEADERS = 100  # of a delivery report: each is looked up among all
_SHOWN = ("Subject", "From", "To", "Cc", "Date")


class _Mail(Message):
    """A mail in which a malformed header parameter counts as missing. `Message` raises an error for it."""

    def get_param(self, param: str, failobj: Any = None, header: str = "content-type", unquote: bool = True) -> Any:
        try:
            value = super().get_param(param, failobj, header, unquote)
            return collapse_rfc2231_value(value) if isinstance(value, tuple) else value
        except (TypeError, ValueError):  # parts in no valid order, or an invalid charset name
            return failobj


def mail_text(data: bytes, html_to_text: Callable[[str], str]) -> str | None:
    """Return the mail as text, or None if `data` is not a mail. Raises `EncryptedMail`."""
    message = message_from_bytes(_BLANKS_AFTER_SOFT_BREAK.sub(b"=", as_ascii_compatible(data)), _Mail)
    if not any(name in message for name in (*_SHOWN, "Content-Type", "Received")):
        return None
    if is_encrypted(message, _payload(message)):
        raise EncryptedMail
    return _message(message, html_to_text)


def secured_text(data: bytes, html_to_text: Callable[[str], str]) -> str:
    """Return the text of a mail that is signed as a whole: what Outlook attaches. Raises `EncryptedMail`."""
    mail = signed_content(data) if data.startswith(_CMS) else data
    if mail is None:
        raise EncryptedMail
    return mail_text(mail, html_to_text) or ""


def mail_box_text(data: bytes, html_to_text: Callable[[str], str]) -> str | None:
    """Return all mails of a mailbox (mbox, RFC 4155), separated by rules, or None if `data` is not a mailbox."""
    if not data.startswith(b"From "):
        return None
    mails = [_QUOTED_FROM.sub(rb"\1", mail.partition(b"\n")[2]) for mail in _MAIL_BEGINS.split(data)[1:]]
    texts = [text for mail in mails if (text := _mail_of_box(mail, html_to_text))]
    return "\n\n---\n\n".join(texts) if texts else None


def subject(data: bytes) -> str:
    """Return the mail's subject, "" if it has none."""
    return _header(message_from_bytes(as_ascii_compatible(data), _Mail), "Subject")


def as_ascii_compatible(data: bytes) -> bytes:
    """Return a mail that was saved as UTF-16 in UTF-8, and other mails unchanged. Headers must be ASCII to be parsed."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace").encode("utf-8", "ignore")
    return data.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")


def _mail_of_box(mail: bytes, html_to_text: Callable[[str], str]) -> str | None:
    try:
        return mail_text(mail, html_to_text) or _text_without_header(mail)
    except RecursionError:  # deeply nested mails: read the headers only, so that the mailbox's other mails are read
        return mail_text(_HEAD_ENDS.split(mail, maxsplit=1)[0], html_to_text)
    except EncryptedMail:
        return _message(message_from_bytes(mail, _Mail), html_to_text) + "\n\n(encrypted)"


def _text_without_header(mail: bytes) -> str | None:
    decoded = decode(mail)
    return None if decoded is None else decoded.text.strip()


def _message(message: Message, html_to_text: Callable[[str], str]) -> str:
    attached: list[str] = []
    head = [f"{name}: {_header(message, name)}" for name in _SHOWN if name in message]
    parts = ["\n".join(head), _body(message, html_to_text, attached)]
    if attached:
        parts.append("Attachments: " + ", ".join(attached))
    return "\n\n".join(part for part in parts if part.strip())


def _body(part: Message, html_to_text: Callable[[str], str], attached: list[str]) -> str:
    if part.get_content_type() in _MAILS:
        return "\n\n".join(_message(inner, html_to_text) for inner in _inner(part))
    if part.get_content_type() in _REPORTS:
        return "\n\n".join(_all_headers(inner) for inner in _inner(part))
    if part.get_content_type() == "multipart/alternative":
        return _alternatives(part, html_to_text, attached)
    if part.is_multipart() or part.get_content_maintype() == "multipart":
        return _parts(part, html_to_text, attached)
    if is_smime(part) and (signed := signed_content(_payload(part))) is not None:
        return _body(message_from_bytes(signed, _Mail), html_to_text, attached)
    if is_tnef(part) and (text := tnef_text(_payload(part), attached)) is not None:
        return text
    if part.get_content_disposition() == "attachment" or (
        part.get_filename() is not None and _written_type(part) not in _SHOWN_TYPES
    ):
        attached.append(_file_name(part))
        return ""
    is_text = part.get_content_maintype() == "text" or part.get_content_type() in _PAGES | _RTF
    return _text(part, html_to_text, attached) if is_text else ""


def _parts(part: Message, html_to_text: Callable[[str], str], attached: list[str]) -> str:
    """Return the texts of the parts. What Outlook packed for itself is another form of them."""
    texts: list[str] = []
    packed: list[str] = []
    for inner in _shown_parts(part):
        body = _body(inner, html_to_text, attached)
        if body.strip():
            (packed if is_tnef(inner) else texts).append(body)
    return chosen_form([form for form in ("\n\n".join(texts), *packed) if form])


def _shown_parts(part: Message) -> list[Message]:
    """Return the parts, without what a page only uses: its styles and scripts, which have no file names."""
    parts = _inner(part)
    if part.get_content_type() != "multipart/related":
        return parts
    is_read = [one.is_multipart() or one.get_content_type() in _READ_WITHIN_PAGES for one in parts]
    root = is_read.index(True) if any(is_read) else 0  # the page itself, of whatever type
    return [
        one
        for number, one in enumerate(parts)
        if is_read[number] or number == root or one.get_content_maintype() != "text" or one.get_filename() is not None
    ]


def _written_type(part: Message) -> str:
    """The content type as it is written. `get_content_type` gives `text/plain` for one that is missing or malformed."""
    return str(part.get("Content-Type", "")).partition(";")[0].strip().lower()


def _alternatives(part: Message, html_to_text: Callable[[str], str], attached: list[str]) -> str:
    """Return one of several forms of the same text, and the invitation beside them."""
    forms: list[str] = []
    invitations: list[str] = []
    for inner in _inner(part):
        body = _body(inner, html_to_text, attached)
        if body.strip():
            (invitations if inner.get_content_type() == "text/calendar" else forms).append(body)
    return "\n\n".join(filter(None, [chosen_form(forms), *invitations]))


def _text(part: Message, html_to_text: Callable[[str], str], attached: list[str]) -> str:
    if part.get_content_subtype() == "calendar":  # an invitation
        return entries_text(_payload(part), _charset(part)) or ""
    if (payload := _payload(part)).startswith(_RTF_BEGINS):
        return rtf_text(payload)
    is_html = part.get_content_type() in _PAGES
    decoded = decode(payload, _charset(part) or (declared_encoding(payload) if is_html else None))
    if decoded is None:
        return ""
    if is_html or _HTML_PAGE.match(decoded.text):
        return html_to_text(decoded.text)
    if part.get_content_type() in _ENRICHED:
        return enriched_text(decoded.text)
    text = _unfolded(decoded.text, part)
    attached += _UUENCODED.findall(text)
    return _UUENCODED.sub("", text)


def _unfolded(text: str, part: Message) -> str:
    """Join the lines that the sender's program cut, also within words: they end with a blank (RFC 3676)."""
    if str(part.get_param("format")).lower() != "flowed":
        return text
    kept = -1 if str(part.get_param("delsp")).lower() == "yes" else None  # whether the blank is part of the text
    joined: list[list[str]] = []
    depth_to_join = -1  # of the quotation whose line goes on
    for line in text.replace("\r\n", "\n").split("\n"):
        words = line.lstrip(">")
        depth = len(line) - len(words)
        goes_on = words.endswith(" ") and words.strip() != "--"
        shown = line[:kept] if goes_on else line
        if depth == depth_to_join:
            joined[-1].append(shown[depth:].removeprefix(" "))
        else:
            joined.append([shown])
        depth_to_join = depth if goes_on else -1
    return "\n".join(map("".join, joined))


def _payload(part: Message) -> bytes:
    written = str(part.get(_ENCODING, ""))
    if (name := _ENCODING_NAME.search(written)) is not None and name[0] != written:
        part.replace_header(_ENCODING, name[0])  # the library knows no blanks and comments around it
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _inner(part: Message) -> list[Message]:
    payload = part.get_payload()
    if not isinstance(payload, list):
        return [_without_boundary(part)]
    return [_decoded_mail(inner) for inner in payload if isinstance(inner, Message)]


def _decoded_mail(mail: Message) -> Message:
    """Return an attached mail, decoded if its sender encoded it as a whole in base64, which RFC 2046 forbids."""
    if mail.keys() or mail.is_multipart():
        return mail
    try:
        decoded = message_from_bytes(binascii.a2b_base64(_payload(mail), strict_mode=False), _Mail)
    except binascii.Error:
        return mail
    return decoded if decoded.keys() else mail


def _without_boundary(part: Message) -> Message:
    """Return the parts of a multipart mail whose header names no boundary or a wrong one, or its text as it is."""
    raw = _payload(part)
    if (found := _BOUNDARY.search(raw)) is not None:
        kind = b'%s; boundary="%s"' % (part.get_content_type().encode(), found[1])
        parts = message_from_bytes(b"Content-Type: " + kind + b"\n\n" + raw, _Mail)
        if parts.is_multipart():
            return parts
    return message_from_bytes(b"Content-Type: text/plain\n\n" + raw, _Mail)


def _charset(part: Message) -> str | None:
    value = part.get_param("charset")
    return value if isinstance(value, str) else None


def _header(message: Message, name: str) -> str:
    value = message[name]
    if value is None:
        return ""
    try:
        # Bounded: decode_header searches for an end at every beginning of an encoded word.
        decoded_words = decode_header(
            value if len(str(value)) <= MAX_HEADER_CHARACTERS else str(value)[:MAX_HEADER_CHARACTERS]
        )
    except HeaderParseError:  # it looks encoded and is not: keep it unchanged
        decoded_words = [(str(value), None)]
    words = []
    for word, charset in decoded_words:
        if isinstance(word, str):
            words.append(word)
            continue
        decoded = decode(word, None if charset == "unknown-8bit" else charset)
        words.append(word.decode("ascii", "replace") if decoded is None else decoded.text)
    return " ".join("".join(words).split())


def _all_headers(message: Message) -> str:
    return "\n".join(f"{name}: {_header(message, name)}" for name in [*dict.fromkeys(message.keys())][:_MOST_HEADERS])


def _file_name(part: Message) -> str:
    name = part.get_filename()
    if name is None:
        return "(no name)"
    holder = Message()
    holder["Name"] = name.replace("\n", " ").replace("\r", " ")
    return _header(holder, "Name")
