"""Mails that are signed or encrypted as a whole: a signature hides nothing, encryption does."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from dagster_offload.extraction.formats.mail import msg
from dagster_offload.extraction.formats.mail.eml import mail_box_text, mail_text, secured_text
from dagster_offload.extraction.formats.mail.msg import OutlookReaders, outlook_text
from dagster_offload.extraction.formats.mail.msg_storage import Storage
from dagster_offload.extraction.formats.mail.secured import EncryptedMail, signed_content
from tests.extraction.made_compound import compound

BODY = b"Content-Type: text/plain; charset=utf-8\r\n\r\nBerth 4 is free.\r\n"
HEADERS = b"From: a@mail.example\r\nSubject: Berths\r\n"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")]), datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return made.sign(key, hashes.SHA256())


def signed(key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> bytes:
    signature = pkcs7.PKCS7SignatureBuilder().set_data(BODY).add_signer(certificate, key, hashes.SHA256())
    content = base64.encodebytes(signature.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary]))
    head = b"Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n"
    return head + b"Content-Transfer-Encoding: base64\r\n\r\n" + content


def encrypted(certificate: x509.Certificate) -> bytes:
    made = pkcs7.PKCS7EnvelopeBuilder().set_data(BODY).add_recipient(certificate)
    return made.encrypt(serialization.Encoding.SMIME, [])


def text_of(mail: bytes) -> str | None:
    return mail_text(mail, lambda page: page)


def test_a_signed_mail_is_read(key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> None:
    mail = HEADERS + signed(key, certificate)
    assert text_of(mail) == "Subject: Berths\nFrom: a@mail.example\n\nBerth 4 is free.\r\n"


def test_content_of_indefinite_length_and_in_parts_is_read() -> None:
    parts = b"\x24\x80\x04\x05Berth\x04\x02 4\0\0"
    inner = b"\x30\x80\x06\x01\x01\xa0\x80" + parts + b"\0\0\0\0"
    signed_data = b"\x30\x80\x02\x01\x01\x31\x00" + inner + b"\x31\x00\0\0"
    data = b"\x30\x80\x06\x01\x02\xa0\x80" + signed_data + b"\0\0\0\0"
    assert signed_content(data) == b"Berth 4"
    for length in range(len(data) - 12):
        assert signed_content(data[:length]) in (None, b"Berth", b"Berth 4")
    assert signed_content(b"\x30\x80" * 100_000) is None


def test_an_encrypted_mail_is_not_taken_for_an_empty_one(certificate: x509.Certificate) -> None:
    pgp = b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n"
    parts = (
        b"Content-Type: multipart/encrypted; boundary=e\r\n\r\n--e\r\nContent-Type: application/pgp-encrypted\r\n\r\n"
    )
    for mail in (
        HEADERS + encrypted(certificate),
        HEADERS + b"\r\n" + pgp,
        HEADERS + parts + b"Version: 1\r\n--e\r\nContent-Type: application/octet-stream\r\n\r\n" + pgp + b"--e--\r\n",
    ):
        with pytest.raises(EncryptedMail):
            text_of(mail)


def test_an_encrypted_mail_of_a_mailbox_keeps_its_headers(certificate: x509.Certificate) -> None:
    from_line = b"From a@mail.example Tue Mar  4 09:30:00 2025\n"
    box = from_line + HEADERS + encrypted(certificate) + b"\n" + from_line + HEADERS + b"\nBerth 4 is free.\n"
    text = mail_box_text(box, lambda page: page)
    assert text is not None
    locked, _, plain = text.partition("\n\n---\n\n")
    assert locked.startswith("Subject: Berths")
    assert locked.endswith("(encrypted)")
    assert plain.endswith("Berth 4 is free.\n")


def outlook(content: bytes) -> str:
    """The text of an Outlook message that is secured as a whole. `content` is its only attachment."""
    streams = {
        "__properties_version1.0": bytes(32),
        "__substg1.0_0037001F": "Berths".encode("utf-16-le"),
        "__substg1.0_001A001F": "IPM.Note.SMIME".encode("utf-16-le"),
        "__attach_version1.0_#00000000/__substg1.0_37010102": content,
        "__attach_version1.0_#00000000/__substg1.0_3707001F": "smime.p7m".encode("utf-16-le"),
    }
    readers = OutlookReaders(str, str, lambda data: secured_text(data, lambda page: page))
    return outlook_text(compound(streams), readers)[0]


def test_an_encrypted_message_in_a_message_of_outlook_keeps_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    def body(message: Storage, _: OutlookReaders) -> str:
        if message.path:
            raise EncryptedMail
        return "see the attached mail"

    monkeypatch.setattr(msg, "_body", body)
    inner = "__attach_version1.0_#00000000/__substg1.0_3701000D"
    streams = {
        "__properties_version1.0": bytes(32),
        "__substg1.0_0037001F": "Berths".encode("utf-16-le"),
        inner: b"a storage in real messages",
    }
    text = outlook_text(compound(streams), OutlookReaders(str, str, str))[0]
    assert text.split("\n\n") == ["Subject: Berths", "see the attached mail", "(encrypted)"]


def test_a_signed_message_of_outlook_is_read(key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> None:
    signature = pkcs7.PKCS7SignatureBuilder().set_data(BODY).add_signer(certificate, key, hashes.SHA256())
    in_signature = signature.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
    beside_signature = b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n" + BODY + b"--s--\r\n"
    for content in (in_signature, beside_signature):
        assert "Berth 4 is free." in outlook(content)
    locked = pkcs7.PKCS7EnvelopeBuilder().set_data(BODY).add_recipient(certificate)
    with pytest.raises(EncryptedMail):
        outlook(locked.encrypt(serialization.Encoding.DER, []))


def test_an_attachment_within_the_text_is_named_and_left_out() -> None:
    encoded = "begin 644 plan.txt\r\n#0V%T\r\n`\r\nend\r\n"
    text = text_of(HEADERS + b"\r\nSee the plan.\r\n\r\n" + encoded.encode() + b"Regards\r\n")
    assert text is not None
    assert "#0V" not in text
    assert text.split("\n")[-1] == "Attachments: plan.txt"
    assert "Regards" in text
    prose = "begin 644 plan.txt\nand the end"
    assert prose in (text_of(HEADERS.replace(b"\r", b"") + b"\n" + prose.encode()) or "")
