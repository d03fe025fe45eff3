"""Keys and passwords: not in the process list, Postgres or a log, and a warning if they are sent unencrypted."""

import logging
import os
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from dagster_offload.client.transport import tls_context
from dagster_offload.drain import drain
from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import slots
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from dagster_offload.slot.addresses import auth_headers, sends_key_unencrypted
from dagster_offload.slot.config import SlotConfig
from tests.client.test_unread_bytes import tls_server
from tests.support.cli import Call


@pytest.mark.parametrize("command", ["up", "drain", "status", "doctor", "redo"])
@pytest.mark.parametrize("url", ["http://me:s3cret@laptop:1", "http://s3cret@laptop:1", "http://me:s3/cret@laptop"])
def test_a_url_with_a_password_is_refused_as_an_option(call: Call, command: str, url: str) -> None:
    result = call(command, "--deep-url", url, "--deep-model", "m")
    assert result.exit_code == 2
    assert "OFFLOAD_DEEP_URL" in result.output
    assert "OFFLOAD_DEEP_API_KEY_FILE" in result.output
    assert "s3" not in result.output
    assert "OFFLOAD_DEEP_URL" not in os.environ


def test_no_password_and_no_key_reach_postgres_or_a_log(
    call: Call, scanned: Path, router: Router, with_ledger: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    os.environ["OFFLOAD_DEEP_URL"] = router.url.replace("http://", "http://me:s3cretword@")
    os.environ["OFFLOAD_DEEP_API_KEY"] = "s3cretkey"
    drain("all", 1)
    router.set(mode="refuse", status=401)
    drain("all", 1)
    call("drain")
    call("doctor")
    with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
        cur.execute("select schemaname, tablename from pg_tables where schemaname like 'offload%'")
        tables = [f"{row['schemaname']}.{row['tablename']}" for row in cur.fetchall()]
        assert {"offload.slots", "offload.calls"} <= set(tables)
        for table in tables:
            cur.execute(f"select t::text as row from {table} t where t::text like '%%s3cret%%'")  # noqa: S608 - names of tables
            assert not cur.fetchall(), table
        cur.execute("select url from slots where name = 'deep'")
        assert cur.fetchall() == [{"url": router.url}]
    assert "s3cret" not in caplog.text
    written = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert not [path for path in written if b"s3cret" in path.read_bytes()]


def test_a_password_in_an_older_ledger_is_overwritten(
    call: Call, scanned: Path, router: Router, with_ledger: str
) -> None:
    os.environ["OFFLOAD_DEEP_URL"] = with_password = router.url.replace("http://", "http://me:s3cretword@")
    drain("all", 1)
    with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
        cur.execute("update slots set url = %s", [with_password])
    drain("all", 1)
    with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
        cur.execute("select url from slots")
        assert cur.fetchall() == [{"url": router.url}]


def test_a_key_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret\n")
    slot = load_settings(deep_url="http://h:1", deep_model="m", deep_api_key_file=file).slots.deep
    assert slot is not None
    assert auth_headers(slot) == {"authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(slot)


def test_a_key_file_that_cannot_be_read_names_its_variable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"OFFLOAD_DEEP_API_KEY_FILE: .*missing cannot be read: No such file"):
        load_settings(
            deep_url="http://h:1", deep_model="m", deep_api_key_file=tmp_path / "missing"
        ).slots.require_keys()
    with pytest.raises(SettingsError, match="both set: remove one"):
        load_settings(deep_url="http://h:1", deep_model="m", deep_api_key="k", deep_api_key_file=tmp_path / "missing")


@pytest.mark.parametrize(
    ("url", "key", "is_reported"),
    [
        ("http://macbook.local:8890", "k", True),
        ("http://me:password@192.168.1.7:8890", None, True),
        ("http://macbook.local:8890", None, False),
        ("https://macbook.local:8890", "k", False),
        ("http://127.0.0.1:8890", "k", False),
        ("http://[::1]:8890", "k", False),
        ("http://localhost:8890", "k", False),
    ],
)
def test_a_key_over_plain_http_beyond_loopback_is_detected(url: str, key: str | None, is_reported: bool) -> None:
    assert sends_key_unencrypted(SlotConfig(name="deep", url=url, model="m", api_key=key)) is is_reported


def test_doctor_reports_an_unencrypted_key_once_with_advice(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLOAD_DEEP_URL", "http://192.0.2.1:9")
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "m")
    monkeypatch.setenv("OFFLOAD_DEEP_API_KEY", "s3cret")
    monkeypatch.setenv("OFFLOAD_DEEP_CONNECT_TIMEOUT", "0.1")
    found = call("doctor").stdout
    assert found.count("sent to 192.0.2.1 unencrypted") == 1
    assert "s3cret" not in found
    advice = call("doctor", "--json").stdout
    assert "OFFLOAD_DEEP_CA_FILE" in advice


def test_doctor_reports_the_unencrypted_token_of_a_sink_with_advice(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "offload.yaml"
    file.write_text("on_record: {hook: {webhook: 'http://192.0.2.7/private-path', token: s3cret}}\n")
    file.chmod(0o600)
    monkeypatch.setenv("OFFLOAD_CONFIG", str(file))
    monkeypatch.setenv("OFFLOAD_DEEP_URL", "http://192.0.2.1:9")
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "m")
    monkeypatch.setenv("OFFLOAD_DEEP_CONNECT_TIMEOUT", "0.1")
    result = call("doctor")
    assert result.exit_code == 75  # about the slot, as without the sink
    assert result.stdout.count("hook: its token is sent to 192.0.2.7 unencrypted") == 1
    assert "on_record.hook.webhook to its https:// address" in call("doctor", "--json").stdout
    assert "s3cret" not in result.output
    assert "private-path" not in result.output


@pytest.fixture
def authority() -> Iterator[trustme.CA]:
    tls_context.cache_clear()
    yield trustme.CA()
    tls_context.cache_clear()


async def test_a_router_with_its_own_certificate_is_trusted_by_its_ca_file(
    authority: trustme.CA, tmp_path: Path
) -> None:
    from dagster_offload.client.probe import probe
    from tests.client.test_unread_bytes import head_of
    from tests.faults.raw_server import reply

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        while await head_of(reader):
            writer.write(reply(200, b'{"status": "ok"}'))
        writer.close()

    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    async with tls_server(authority, handle) as url:
        untrusting = SlotConfig(name="deep", url=url, model="m")
        assert (await probe(untrusting)).reason == "TLS certificate not trusted: unable to get local issuer certificate"
        assert (await probe(SlotConfig(name="deep", url=url, model="m", ca_file=str(ca_file)))).healthy


@pytest.mark.parametrize(
    ("name", "reason"), [("empty.pem", "no certificate in PEM form"), ("gone.pem", "No such file")]
)
@pytest.mark.usefixtures("authority")
async def test_a_default_for_certificates_that_cannot_be_read_gives_a_reason_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    """Programs such as conda leave SSL_CERT_FILE behind."""
    from dagster_offload.client.probe import probe

    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
    result = await probe(SlotConfig(name="deep", url="https://127.0.0.1:9", model="m"))
    assert (result.healthy, result.is_setting) == (False, True)
    assert result.reason.startswith(f"SSL_CERT_FILE: {tmp_path / name} cannot be used: ")
    assert reason in result.reason


def test_a_ca_file_without_a_certificate_names_its_variable(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name, reason in (("ca.pem", "no certificate in PEM form"), ("missing.pem", "No such file")):
        with pytest.raises(SettingsError, match=f"OFFLOAD_DEEP_CA_FILE: .*{reason}"):
            tls_context(str(tmp_path / name), "OFFLOAD_DEEP_CA_FILE")
    assert isinstance(tls_context(None, ""), ssl.SSLContext)


@pytest.fixture
def keyless(answered: Path, router: Router, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A slot whose `${TOWER_KEY}` is set where `up` runs and not in this terminal. Its documents have records."""
    for name in ("OFFLOAD_DEEP_URL", "OFFLOAD_DEEP_MODEL"):
        monkeypatch.delenv(name)
    Path("offload.yaml").write_text(
        f'slots:\n  deep:\n    url: {router.url}\n    model: qwen-macbook\n    api_key: "${{TOWER_KEY}}"\n'
    )
    return answered


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["records"],
        ["explain", "letter.txt"],
        ["text", "letter.txt"],
        ["correct", "--list"],
        ["preview"],
        ["sink", "list"],
        ["notify", "list"],
        ["pause"],
        ["resume"],
        ["retry", "--all"],
        ["redo", "letter.txt", "--yes"],
        ["slot", "show"],
        ["config", "show"],
        ["config", "check"],
        ["scan"],
    ],
)
def test_a_command_that_sends_nothing_to_a_slot_does_not_need_its_key(
    call: Call, keyless: Path, command: list[str]
) -> None:
    result = call(*command)
    assert (result.exit_code, result.exception) == (0, None), result.output


@pytest.mark.parametrize("command", [["drain"], ["doctor"], ["stage", "try", "summarize", "offload.yaml"], ["up"]])
def test_a_command_that_sends_to_a_slot_names_the_variable_of_its_key(
    call: Call, keyless: Path, command: list[str]
) -> None:
    result = call(*command)
    assert result.exit_code == 2
    assert "offload.yaml:5:14: slots.deep.api_key: the variable TOWER_KEY is not set" in " ".join(result.output.split())


def test_status_without_the_key_of_a_slot_says_so_and_does_not_call_the_slot_unavailable(
    call: Call, keyless: Path, with_ledger: str
) -> None:
    with Ledger(with_ledger) as ledger:
        before = ledger.run(slots.get, "deep")
        shown = " ".join(call("status").output.split())
        assert call("scan").exit_code == 0
        assert ledger.run(slots.get, "deep") == before, "the ledger has the settings of `up`"
    assert "not checked from here: " in shown
    assert "the variable TOWER_KEY is not set" in shown
    assert "unavailable" not in shown


def test_a_key_file_that_cannot_be_read_stops_only_what_sends(
    call: Call, scanned: Path, router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFLOAD_DEEP_API_KEY_FILE", str(tmp_path / "not there"))
    assert call("status").exit_code == 0
    drained = call("drain")
    assert (drained.exit_code, "OFFLOAD_DEEP_API_KEY_FILE" in drained.output) == (2, True)
