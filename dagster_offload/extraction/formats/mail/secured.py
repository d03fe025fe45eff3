"""Look into mails that are signed or encrypted as a whole (S/MIME, PGP): a signature hides nothing, encryption does.

Format specifications: RFC 5652 (CMS), RFC 8551 (S/MIME), RFC 3156 (PGP).
"""

from collections.abc import Iterator
from email.message import Message

_SMIME = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_PGP = b"-----BEGIN PGP MESSAGE-----"
_INDEFINITE, _END_OF_CONTENT = 0x80, 0x00
_OCTETS, _OCTETS_IN_PARTS = 0x04, 0x24
_MAX_DEPTH = 30

Element = tuple[int, int, int, int]  # tag, where the content begins and ends, and where the next element begins


class EncryptedMail(ValueError):  # noqa: N818 - describes the input, not a fault of ours
    """Only the recipient's mail program can read the mail."""


def is_smime(part: Message) -> bool:
    """Whether this part holds a whole mail in S/MIME."""
    return part.get_content_type() in _SMIME


def is_encrypted(part: Message, payload: bytes) -> bool:
    """Whether a part can be read only with the key of its recipient."""
    if is_smime(part):
        return signed_content(payload) is None
    return part.get_content_type() == "multipart/encrypted" or payload.lstrip().startswith(_PGP)


def signed_content(data: bytes) -> bytes | None:
    """Return the mail inside a signature of S/MIME, None if this is not one."""
    try:
        content = _children(data, next(_elements(data, 0, len(data))))[1]
        signed = _children(data, _children(data, content)[0])
        inner = _children(data, signed[2])[1]
        octets = _children(data, inner)[0]
    except (ValueError, IndexError, StopIteration):
        return None
    if octets[0] == _OCTETS:
        return data[octets[1] : octets[2]]
    parts = _children(data, octets) if octets[0] == _OCTETS_IN_PARTS else []
    return b"".join(data[part[1] : part[2]] for part in parts) or None


def _children(data: bytes, parent: Element) -> list[Element]:
    return list(_elements(data, parent[1], parent[2]))


def _elements(data: bytes, offset: int, end: int, depth: int = 0) -> Iterator[Element]:
    """Yield the elements of an ASN.1 value (BER). Raises `IndexError` and `ValueError` for other data."""
    while offset < end:
        tag, length, start = data[offset], data[offset + 1], offset + 2
        if tag == _END_OF_CONTENT and length == 0:
            return
        if length == _INDEFINITE:
            if depth > _MAX_DEPTH:
                raise ValueError("nested too deeply")
            inner = list(_elements(data, start, end, depth + 1))
            close = inner[-1][3] if inner else start
            offset = close + 2
        else:
            if length > _INDEFINITE:
                size = length - _INDEFINITE
                length, start = int.from_bytes(data[start : start + size], "big"), start + size
            offset = close = start + length
        if offset > end:
            raise ValueError("cut off")
        yield tag, start, close, offset
