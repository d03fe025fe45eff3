"""Find out whether a password or rights management prevents reading an office file."""

import re
import struct

import olefile

from dagster_offload.extraction.file_types.containers import (
    OfficeArchive,
    head_of,
    is_archive,
    is_compound,
    opened_archive,
    opened_compound,
)
from dagster_offload.extraction.file_types.detection import is_hangul

# EPUB readers restore these obfuscated fonts without a key. Any other encryption needs one.
_SCRAMBLED_FONTS = (b"http://www.idpf.org/2008/embedding", b"http://ns.adobe.com/pdf/enc#RC")
_ALGORITHM = re.compile(rb"""EncryptionMethod[^<>]{0,1000}?Algorithm\s*=\s*["']([^"']*)""")

# An encrypted member of an OpenDocument file, in its manifest. Macros and dialogs can have a password of their own.
_ENCRYPTED_MEMBER = re.compile(
    rb"""full-path\s*=\s*"([^"<>]{0,1000})"[^<>]{0,1000}>\s{0,100}<(?:\w+:)?encryption-data"""
)
_MACROS = (b"Basic/", b"Dialogs/")

_HWP_PASSWORD, _HWP_RIGHTS = 2, 16
_WORD_IS_ENCRYPTED = 0x0100


def protection_of(data: bytes) -> str | None:
    """Return how an office file is protected, such as "by a password", or None if it is not.

    Does not check PDF and XLS files. Their readers report a password.
    """
    if is_archive(data):
        return opened_archive(data, _archive_protection)
    return opened_compound(data, _compound_protection) if is_compound(data) else None


def _archive_protection(archive: OfficeArchive) -> str | None:
    names = set(archive.namelist())
    manifest, keys = "META-INF/manifest.xml", "META-INF/encryption.xml"
    if any(member.flag_bits & 1 for member in archive.infolist()):
        return "by a password"
    if manifest in names and _is_content_encrypted(head_of(archive, manifest, 1_000_000)):
        return "by a password"
    if keys in names and set(_ALGORITHM.findall(head_of(archive, keys, 1_000_000))) - set(_SCRAMBLED_FONTS):
        return "by digital rights management"
    return None


def _is_content_encrypted(manifest: bytes) -> bool:
    if b"encryption-data" not in manifest:
        return False
    members = _ENCRYPTED_MEMBER.findall(manifest)
    return not members or not all(member.startswith(_MACROS) for member in members)


def _compound_protection(file: olefile.OleFileIO) -> str | None:
    if is_hangul(file):
        return _hangul_protection(file)
    has_password = (
        file.exists("EncryptedPackage")
        or file.exists("EncryptedSummary")
        or (file.exists("WordDocument") and _is_encrypted_word(file))
    )
    return "by a password" if has_password else None


def _hangul_protection(file: olefile.OleFileIO) -> str | None:
    (flags,) = struct.unpack_from("<I", file.openstream("FileHeader").read(), 36)
    if flags & _HWP_PASSWORD:
        return "by a password"
    return "by digital rights management" if flags & _HWP_RIGHTS else None


def _is_encrypted_word(file: olefile.OleFileIO) -> bool:
    head = file.openstream("WordDocument").read(12)
    return bool(struct.unpack_from("<H", head, 10)[0] & _WORD_IS_ENCRYPTED)
