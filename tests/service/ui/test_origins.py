"""Host and Origin headers as attackers and unusual clients send them."""

import pytest

from dagster_offload.service.ui.origins import HostPort, is_our_name, is_same_site, parse_host, parse_origin

NAMES = {"localhost", "box.lan"}


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "localhost:3000",
        "LOCALHOST:3000",
        "localhost.",
        "localhost.:3000",
        "Box.LAN:80",
        "127.0.0.1:3000",
        "127.8.9.1",
        "192.168.1.5:3000",
        "[::1]:3000",
        "[0:0:0:0:0:0:0:1]",
        "[FE80::1]",
        "[::ffff:127.0.0.1]:3000",
        "0.0.0.0:3000",
    ],
)
def test_a_name_of_ours_and_every_ip_address_are_accepted(text: str) -> None:
    host = parse_host(text)
    assert host is not None
    assert is_our_name(host, NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "evil.com",
        "evil.com:3000",
        "localhost.evil.com",
        "evil.localhost.com",
        "127.0.0.1.evil.com",
        "127.0.0.1.nip.io",
        "box.lan.evil.com",
        "xbox.lan",
        "evil-localhost",
        "localhost..",
        "2130706433",  # 127.0.0.1 as one number: browsers send the usual form
        "0x7f.1",
    ],
)
def test_any_other_name_is_not_ours(text: str) -> None:
    host = parse_host(text)
    assert host is None or not is_our_name(host, NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":3000",
        ".",
        "localhost:",
        "localhost:3000:80",
        "localhost:evil",
        "localhost:999999",
        "me@localhost",
        "localhost/evil.com",
        "localhost, evil.com",
        "localhost evil.com",
        "local\nhost",
        "löcalhost",
        "::1",
        "[::1",
        "[evil.com]",
        "[]",
        "[::1]evil.com",
        "http://localhost",
    ],
)
def test_a_malformed_host_is_refused(text: str) -> None:
    assert parse_host(text) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:3000", "localhost:3000"),
        ("HTTP://LOCALHOST:3000", "localhost.:3000"),
        ("http://localhost", "localhost"),
        ("http://localhost", "localhost:80"),
        ("https://box.lan", "box.lan"),  # a proxy adds TLS and keeps the host
        ("https://box.lan:443", "box.lan"),
        ("http://[::1]:3000", "[0:0::1]:3000"),
    ],
)
def test_a_page_of_the_same_host_and_port_is_ours(origin: str, host: str) -> None:
    parsed = parse_host(host)
    assert parsed is not None
    assert is_same_site(origin, parsed, None)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil",
        "http://localhost.evil.com:3000",
        "http://localhost:3001",  # a server of another user on the same machine
        "http://localhost",
        "https://localhost",
        "http://127.0.0.1:3000",
        "http://localhost:3000.evil.com",
        "http://localhost:3000@evil.com",
        "http://localhost:3000/",
        "http://localhost:3000 http://evil",
        "file://localhost:3000",
        "chrome-extension://localhost:3000",
        "localhost:3000",
    ],
)
def test_a_page_of_any_other_origin_is_not_ours(origin: str) -> None:
    assert not is_same_site(origin, HostPort("localhost", 3000), None)


def test_the_proxys_origin_is_ours_even_if_the_proxy_changes_the_host() -> None:
    proxy = parse_origin("https://offload.example.org:8443")
    for origin, is_ours in [
        ("https://offload.example.org:8443", True),
        ("http://offload.example.org:8443", False),
        ("https://offload.example.org", False),
        ("https://evil.offload.example.org:8443", False),
    ]:
        assert is_same_site(origin, HostPort("127.0.0.1", 3000), proxy) == is_ours, origin
