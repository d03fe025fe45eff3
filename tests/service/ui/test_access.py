"""Which log-in `up` demands for which address, and the addresses it shows."""

import ipaddress
import socket
from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.service.ports import address_of, network_address_of
from dagster_offload.service.ui.access import Access, decide_access, is_loopback
from dagster_offload.service.ui.passwords import hash_password, write_password_file
from dagster_offload.settings import Settings, load_settings


def settings(tmp_path: Path, **given: str) -> Settings:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return load_settings(home=home, **given)


def access_of(tmp_path: Path, host: str, **given: str) -> Access:
    found = settings(tmp_path, **given)
    return decide_access(found.ui, found.home, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_no_log_in_is_needed(tmp_path: Path, host: str) -> None:
    assert is_loopback(host)
    assert not access_of(tmp_path, host).needs_login


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "no-such-host.invalid"])
def test_beyond_loopback_a_ui_without_log_in_is_refused_with_the_three_ways(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        access_of(tmp_path, host)
    for way in (
        "--token",
        "dagster-offload password",
        "OFFLOAD_UI_PASSWORD_FILE",
        "--behind-proxy",
        "OFFLOAD_UI_PROXY",
    ):
        assert way in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_token_a_password_or_both_open_it_beyond_loopback(tmp_path: Path) -> None:
    file = tmp_path / "password"
    write_password_file(file, hash_password("correct horse"))
    with_token = access_of(tmp_path, "0.0.0.0", ui_token="on")
    with_password = access_of(tmp_path, "0.0.0.0", ui_password_file=str(file))
    assert (with_token.token is not None, with_token.password) == (True, None)
    assert (with_password.token, with_password.password is not None) == (None, True)
    assert socket.gethostname().lower() in with_token.names
    assert with_token.token is not None
    assert with_token.token not in repr(with_token)


def test_beyond_loopback_a_proxy_needs_the_address_it_connects_from(tmp_path: Path) -> None:
    proxy = {"ui_proxy": "https://docs.example.org"}
    with pytest.raises(SettingsError, match="OFFLOAD_UI_PROXY_ADDRESS"):
        access_of(tmp_path, "0.0.0.0", **proxy)
    access = access_of(tmp_path, "0.0.0.0", **proxy, ui_proxy_address="172.18.0.0/16, 10.0.0.9")
    assert not access.needs_login
    assert access.is_peer("172.18.3.4")
    assert access.is_peer("10.0.0.9")
    assert not access.is_peer("10.0.0.10")
    assert "docs.example.org" in access.names
    local = access_of(tmp_path, "127.0.0.1", **proxy)
    assert local.is_peer("127.0.0.1")
    assert not local.is_peer("10.0.0.9")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ui_token", "yes"),
        ("ui_proxy", "docs.example.org"),
        ("ui_proxy", "https://docs.example.org/offload"),
        ("ui_proxy", "https://me:secret@docs.example.org"),
        ("ui_proxy_address", "docs.example.org"),
        ("ui_proxy_address", "10.0.0.1, 300.0.0.1"),
        ("ui_host_names", "https://box.lan"),
        ("ui_host_names", "box.lan:3000"),
        ("ui_host_names", "*"),
        ("ui_path_prefix", "offload"),
        ("ui_path_prefix", "/offload/"),
        ("ui_path_prefix", "/"),
        ("ui_path_prefix", "/a/../b"),
        ("ui_path_prefix", "//evil.com"),
        ("ui_path_prefix", "/a b"),
        ("ui_path_prefix", '/"><script>'),
        ("previews", "no"),
    ],
)
def test_the_error_for_a_wrong_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"OFFLOAD_{name.upper()}"):
        load_settings(**{name: value})


def test_the_address_for_other_machines_is_an_address_of_this_one() -> None:
    assert network_address_of("127.0.0.1", 3000) is None
    found = network_address_of("0.0.0.0", 3000, "/offload")
    if found is None:
        pytest.skip("this machine is in no network")
    host = found.removeprefix("http://").removesuffix(":3000/offload")
    with socket.socket() as listener:
        listener.bind((host, 0))  # fails unless the address is ours
    assert not ipaddress.ip_address(host).is_unspecified


def test_addresses_in_urls_are_complete() -> None:
    assert address_of("::", 3000) == "http://[::1]:3000"
    assert address_of("fe80::1", 3000, "/offload") == "http://[fe80::1]:3000/offload"
    assert address_of("0.0.0.0", 3000) == "http://127.0.0.1:3000"
