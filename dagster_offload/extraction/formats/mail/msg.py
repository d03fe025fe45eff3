"""Read an Outlook message (MSG): headers, the body once, and the names of attachments, like `mail_text`.

Format specifications: [MS-OXMSG] (storages and streams), [MS-OXPROPS] (property numbers), [MS-OXRTFCP] (compressed RTF).
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import olefile

from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS
from dagster_offload.extraction.formats.mail.forms import chosen_form
from dagster_offload.extraction.formats.mail.msg_entries import entry_lines
from dagster_offload.extraction.formats.mail.msg_storage import Storage, moment
from dagster_offload.extraction.formats.mail.secured import EncryptedMail

_SUBJECT, _SENDER, _SENDER_ADDRESS, _SENDER_SMTP = 0x0037, 0x0C1A, 0x0C1F, 0x5D01
_BODY, _RTF_BODY, _HTML_BODY = 0x1000, 0x1009, 0x1013
_SUBMITTED, _DELIVERED = 0x0039, 0x0E06
_NAME, _ADDRESS, _SMTP, _RECIPIENT_KIND = 0x3001, 0x3003, 0x39FE, 0x0C15
_LONG_FILE_NAME, _FILE_NAME = 0x3707, 0x3704
_CLASS, _ATTACHED_BYTES = 0x001A, 0x3701
_SECURED = "IPM.NOTE.SMIME"  # the class of a message whose body is in its only attachment begins so
_EMBEDDED = "__substg1.0_3701000D"

_RECIPIENT_KINDS = {1: "To", 2: "Cc"}

# The initial content of the decompression window ([MS-OXRTFCP] 2.1.2).
_RTF_BEGINNING = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans SerifSymbol"
    rb"ArialTimes New RomanCourier{\colortbl\red0\green0\blue0"
    b"\r\n"
    rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)


class NotOutlook(Exception):  # noqa: N818 - describes the input, not a fault of ours
    """The file is not an Outlook message, or it is broken."""


@dataclass(frozen=True)
class OutlookReaders:
    """The functions that convert an HTML or RTF body to text, or a signed mail."""

    html: Callable[[bytes], str]
    rtf: Callable[[bytes], str]
    secured: Callable[[bytes], str]


def outlook_text(data: bytes, readers: OutlookReaders) -> tuple[str, str]:
    """Return the message as text, and its subject. Raises `NotOutlook` and `EncryptedMail`."""
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            message = Storage(file, [], header_bytes=32)
            return _message(message, readers), message.text(_SUBJECT)
    except EncryptedMail:
        raise
    except DAMAGE_ERRORS as error:
        raise NotOutlook(type(error).__name__) from None


def _message(message: Storage, readers: OutlookReaders) -> str:
    attached: list[str] = []
    inner: list[str] = []
    for attachment in message.inner("__attach_version1.0_"):
        if message.file.exists("/".join([*attachment.path, _EMBEDDED])):
            path = [*attachment.path, _EMBEDDED]
            inner.append(_attached_message(Storage(message.file, path, header_bytes=24), readers))
        else:
            names = (attachment.text(_LONG_FILE_NAME), attachment.text(_FILE_NAME), attachment.text(_NAME))
            attached.append(next(filter(None, names), "(no name)"))
    parts = [_head(message), _body(message, readers), *inner]
    if attached:
        parts.append("Attachments: " + ", ".join(attached))
    return "\n\n".join(part for part in parts if part.strip())


def _attached_message(message: Storage, readers: OutlookReaders) -> str:
    try:
        return _message(message, readers)
    except EncryptedMail:
        return f"{_head(message)}\n\n(encrypted)".strip()


def _head(message: Storage) -> str:
    shown = {"Subject": message.text(_SUBJECT)}
    address = message.text(_SENDER_SMTP) or message.text(_SENDER_ADDRESS)
    shown["From"] = _person(message.text(_SENDER), address)
    for recipient in message.inner("__recip_version1.0_"):
        kind = _RECIPIENT_KINDS.get((recipient.fixed(_RECIPIENT_KIND) or 0) & 0xFFFFFFFF)
        if kind is not None:
            person = _person(recipient.text(_NAME), recipient.text(_SMTP) or recipient.text(_ADDRESS))
            shown[kind] = f"{shown[kind]}, {person}" if kind in shown else person
    ticks = message.fixed(_SUBMITTED) or message.fixed(_DELIVERED)  # of 0.1 µs
    if ticks:
        shown["Date"] = f"{moment(ticks):%Y-%m-%d %H:%M UTC}"
    shown.update(entry_lines(message.text(_CLASS), message))
    return "\n".join(f"{name}: {' '.join(value.split())}" for name, value in shown.items() if value.strip())


def _person(name: str, address: str) -> str:
    return f"{name} <{address}>" if name and "@" in address and name != address else name or address


def _body(message: Storage, readers: OutlookReaders) -> str:
    page = message.binary(_HTML_BODY) or message.text(_HTML_BODY).encode()
    forms = [message.text(_BODY), readers.html(page) if page.strip(b"\0 \r\n") else ""]
    if body := chosen_form([form for form in forms if form.strip()]):
        return body
    compressed = message.binary(_RTF_BODY)
    if compressed:
        return readers.rtf(decompress_rtf(compressed))
    if message.text(_CLASS).upper().startswith(_SECURED):
        contents = (attachment.binary(_ATTACHED_BYTES) for attachment in message.inner("__attach_version1.0_"))
        return readers.secured(next(filter(None, contents), b""))
    return ""


def decompress_rtf(data: bytes) -> bytes:
    """Decompress RTF. Eight tokens follow each byte of flags: a literal byte, or an offset and length in a 4,096-byte
    window.

    Raises `NotOutlook` for an unknown compression.
    """
    _, size, kind, _ = struct.unpack_from("<I I 4s I", data)
    if kind == b"MELA":
        return data[16 : 16 + size]
    if kind != b"LZFu":
        raise NotOutlook("unknown RTF compression")
    window = bytearray(4096)
    window[: len(_RTF_BEGINNING)] = _RTF_BEGINNING
    end, offset, out = len(_RTF_BEGINNING), 16, bytearray()
    while offset < len(data) and len(out) < size:
        flags = data[offset]
        offset += 1
        for bit in range(8):
            if flags >> bit & 1:
                (token,) = struct.unpack_from(">H", data, offset)
                offset += 2
                start, length = token >> 4, (token & 15) + 2
                if start == end:
                    return bytes(out)
            else:
                if offset >= len(data):
                    return bytes(out)
                window[end], start, length = data[offset], end, 1
                offset += 1
            for step in range(length):
                byte = window[(start + step) % 4096]
                window[end] = byte
                out.append(byte)
                end = (end + 1) % 4096
    return bytes(out)
