"""Open `winmail.dat`, in which Outlook sends a mail's text and attachments to programs that cannot open it.

Format specification: [MS-OXTNEF].
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message

from dagster_offload.extraction.encodings.decoding import decode
from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS
from dagster_offload.extraction.formats.html import html_bytes_text
from dagster_offload.extraction.formats.mail.forms import chosen_form
from dagster_offload.extraction.formats.mail.msg import NotOutlook, decompress_rtf
from dagster_offload.extraction.formats.rtf import rtf_text

_TYPES = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_FILE_NAME = "winmail.dat"
_SIGNATURE, _HEAD_BYTES = b"\x78\x9f\x3e\x22", 6
_PLAIN, _PROPERTIES, _CODE_PAGE = 0x0002800C, 0x00069003, 0x00069007
_ATTACHMENT, _TITLE, _ATTACHMENT_PROPERTIES = 0x00069002, 0x00018010, 0x00069005
_BODY, _RTF_BODY, _HTML_BODY, _LONG_NAME = 0x1000, 0x1009, 0x1013, 0x3707
_FIRST_NAMED, _BY_NUMBER, _SEVERAL = 0x8000, 0, 0x1000
_UNICODE = 0x001F
_WITH_LENGTH = frozenset({0x000D, 0x001E, _UNICODE, 0x0102})
_FIXED_BYTES = {0x0005: 8, 0x0006: 8, 0x0007: 8, 0x0014: 8, 0x0040: 8, 0x0048: 16}  # all others take 4


@dataclass
class _Content:
    plain: bytes = b""
    properties: dict[int, str | bytes] = field(default_factory=dict)
    code_page: str | None = None
    attached: list[bytes | str] = field(default_factory=list)  # their names


def is_tnef(part: Message) -> bool:
    """Whether this part of a mail is such a file."""
    return part.get_content_type() in _TYPES or (part.get_filename() or "").lower() == _FILE_NAME


def tnef_text(data: bytes, attached: list[str]) -> str | None:
    """Return the mail's text, "" if it has none, and add the names of its attachments. None if `data` is no such file."""
    if not data.startswith(_SIGNATURE):
        return None
    content = _content(data)
    attached += [_text(name, content) or "(no name)" for name in content.attached]
    page = content.properties.get(_HTML_BODY, b"")
    forms = [
        _text(content.properties.get(_BODY) or content.plain, content),
        html_bytes_text(page.encode() if isinstance(page, str) else page),
    ]
    return chosen_form([form for form in forms if form.strip()]) or _rtf(content.properties.get(_RTF_BODY))


def _rtf(compressed: str | bytes | None) -> str:
    if not isinstance(compressed, bytes):
        return ""
    try:
        return rtf_text(decompress_rtf(compressed))
    except (NotOutlook, *DAMAGE_ERRORS):
        return ""


def _text(value: str | bytes, content: _Content) -> str:
    if isinstance(value, bytes):
        decoded = decode(value.rstrip(b"\0"), content.code_page)
        value = "" if decoded is None else decoded.text
    return value.rstrip("\0")


def _content(data: bytes) -> _Content:
    """Return what the file holds. One that is damaged or cut off gives what is before the damage."""
    content = _Content()
    for kind, value in _attributes(data):
        if kind == _PLAIN:
            content.plain = value
        elif kind == _PROPERTIES:
            content.properties.update(_properties(value))
        elif kind == _CODE_PAGE:
            content.code_page = f"cp{int.from_bytes(value[:4], 'little')}"
        elif kind == _ATTACHMENT:
            content.attached.append("")
        elif kind == _TITLE and content.attached:
            content.attached[-1] = content.attached[-1] or value
        elif kind == _ATTACHMENT_PROPERTIES and content.attached:
            content.attached[-1] = dict(_properties(value)).get(_LONG_NAME) or content.attached[-1]
    return content


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers and values of the attributes. Each has a level before it and a checksum behind it."""
    offset = _HEAD_BYTES
    while offset + 9 <= len(data):
        kind, length = struct.unpack_from("<II", data, offset + 1)
        yield kind, data[offset + 9 : offset + 9 + length]
        offset += 9 + length + 2


def _properties(data: bytes) -> Iterator[tuple[int, str | bytes]]:
    """Yield the properties of texts and bytes that have well-known numbers, up to one that is cut off."""
    offset = 4  # after their count
    while offset + 4 <= len(data):
        kind, number = struct.unpack_from("<HH", data, offset)
        offset += 4
        if number >= _FIRST_NAMED:
            offset += 20 + (4 if _number(data, offset + 16) == _BY_NUMBER else _padded(_number(data, offset + 20)) + 4)
        is_list, kind = kind & _SEVERAL, kind & ~_SEVERAL
        count = 1
        if is_list or kind in _WITH_LENGTH:
            count, offset = _number(data, offset), offset + 4
        if kind not in _WITH_LENGTH:
            offset += count * _FIXED_BYTES.get(kind, 4)
            continue
        for _ in range(count):
            length, start = _number(data, offset), offset + 4
            offset = start + _padded(length)
            if offset > len(data):
                return
            value = data[start : start + length]
            yield number, value.decode("utf-16-le", "replace") if kind == _UNICODE else value


def _number(data: bytes, offset: int) -> int:
    """Return the number at this place, 0 behind the end."""
    return int.from_bytes(data[offset : offset + 4], "little")


def _padded(length: int) -> int:
    return -(-length // 4) * 4
