"""What a TLS certificate that is not trusted shows: why, and the setting that may help."""

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trustme

from dagster_offload.client.faults import fault_code, reason_with_setting
from dagster_offload.client.transport import Http, get, tls_context
from dagster_offload.slot.config import SlotConfig

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def refusal_of(certificate: trustme.LeafCert, ca_file: Path | None) -> tuple[str, str]:
    """The reason and the code of a request to a server with this certificate."""
    tls_context.cache_clear()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        slot = SlotConfig(name="deep", url=url, model="m", ca_file=None if ca_file is None else str(ca_file))
        async with Http([slot]) as http:
            with pytest.raises(httpx.ConnectError) as raised:
                await get(http, slot, "/health", 5.0)
    tls_context.cache_clear()
    return reason_with_setting(slot, raised.value), fault_code(raised.value)


@pytest.mark.rule("slot-15")
async def test_a_certificate_names_the_setting_that_may_help(tmp_path: Path) -> None:
    authority, ca_file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    reason, code = await refusal_of(authority.issue_cert("127.0.0.1"), None)
    assert reason == "TLS certificate not trusted: unable to get local issuer certificate (check OFFLOAD_DEEP_CA_FILE)"
    assert code == "tls_certificate_not_trusted"
    reason, code = await refusal_of(authority.issue_cert("macbook.example"), ca_file)
    assert reason.startswith("TLS certificate not trusted: IP address mismatch")
    assert reason.endswith("(check OFFLOAD_DEEP_URL)")
    assert code == "tls_certificate_not_trusted"


@pytest.mark.rule("slot-15")
async def test_a_certificate_that_has_expired_names_no_setting(tmp_path: Path) -> None:
    authority, ca_file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    expired = authority.issue_cert("127.0.0.1", not_before=LONG_AGO, not_after=LONG_AGO)
    reason, _ = await refusal_of(expired, ca_file)
    assert reason == "TLS certificate not trusted: certificate has expired"
