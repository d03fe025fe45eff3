"""Open workbooks that Excel itself opens without asking for a password.

Excel encrypts a workbook with the password `VelvetSweatshop` if it protects only its structure, and always tries this
password first ([MS-OFFCRYPTO], [MS-XLS] 2.2.10).
"""

import io
import struct
from xml.parsers.expat import ExpatError

import olefile

from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS, is_compound

_PASSWORD = "VelvetSweatshop"  # noqa: S105 - public, and the same for everyone
_STREAMS = ("Workbook", "Book")
_PACKAGE = "EncryptedPackage"
_NAMES = tuple(name.encode("utf-16-le") for name in (_PACKAGE, *_STREAMS))  # as the file's directory has them
_FILE_PASS = 0x2F
_MAX_RECORDS = 20  # the record that announces the encryption is among the first


def opened(data: bytes) -> bytes:
    """Return the workbook decrypted, or `data` unchanged if it is not encrypted or has another password."""
    if not _is_encrypted(data):
        return data
    import msoffcrypto  # imports a large library, and few files need it
    from msoffcrypto.exceptions import DecryptionError, FileFormatError, InvalidKeyError, ParseError

    content = io.BytesIO()
    try:
        locked = msoffcrypto.OfficeFile(io.BytesIO(data))
        locked.load_key(password=_PASSWORD, verify_password=True)
        locked.decrypt(content)
    except (DecryptionError, FileFormatError, InvalidKeyError, ParseError, ExpatError, *DAMAGE_ERRORS):
        return data
    return content.getvalue()


def _is_encrypted(data: bytes) -> bool:
    if not is_compound(data) or not any(name in data for name in _NAMES):
        return False
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            if file.exists(_PACKAGE):
                return True
            name = next((name for name in _STREAMS if file.exists(name)), None)
            return name is not None and _has_file_pass(file.openstream(name).read(4096))
    except DAMAGE_ERRORS:
        return False


def _has_file_pass(stream: bytes) -> bool:
    offset = 0
    for _ in range(_MAX_RECORDS):
        if offset + 4 > len(stream):
            return False
        kind, size = struct.unpack_from("<HH", stream, offset)
        if kind == _FILE_PASS:
            return True
        offset += 4 + size
    return False
