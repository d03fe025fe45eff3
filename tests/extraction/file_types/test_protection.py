"""Protected office files: a password on the content is told, one on the macros is not."""

import io
import zipfile

import pytest

from dagster_offload.extraction.file_types.protection import protection_of

ENCRYPTED = '<manifest:file-entry manifest:full-path="{}" manifest:size="9">\n <manifest:encryption-data/>'


def open_document(*encrypted: str) -> bytes:
    """An OpenDocument file whose manifest lists these members as encrypted."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("content.xml", "<document-content/>")
        archive.writestr("META-INF/manifest.xml", "\n".join(map(ENCRYPTED.format, encrypted)))
    return made.getvalue()


@pytest.mark.parametrize(
    "members", [("content.xml",), ("Basic/Standard/Module1.xml", "content.xml"), ("encrypted-package",)]
)
def test_an_encrypted_content_needs_a_password(members: tuple[str, ...]) -> None:
    assert protection_of(open_document(*members)) == "by a password"


def test_a_password_on_macros_and_dialogs_does_not_lock_the_content() -> None:
    assert protection_of(open_document("Basic/Protected/Module1.xml", "Dialogs/Protected/Ask.xml")) is None
    assert protection_of(open_document()) is None


def test_an_encrypted_member_that_the_manifest_does_not_name_needs_a_password() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("META-INF/manifest.xml", "<encryption-data/>")
    assert protection_of(made.getvalue()) == "by a password"
