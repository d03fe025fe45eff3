"""What `doctor` says of a proxy between this machine and the slot."""

import json

import pytest

from tests.faults.acts import says
from tests.faults.raw_server import RawServer
from tests.support.cli import Call


def test_doctor_names_the_proxy_that_the_requests_go_through_and_leaves_the_name_to_it(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(health=says(503)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me:s3cret@"))
        result = call("doctor", "--deep-url", "http://macbook.invalid:8890", "--deep-model", "qwen-macbook", "--json")
    checks = {check["name"]: check["found"] for check in json.loads(result.stdout)["checks"]}
    assert checks["proxy"] == (f"requests go through {proxy.url}; add macbook.invalid to NO_PROXY to reach it directly")
    assert "HTTP 503" in checks["health"]
    assert "resolves" not in checks
    assert "s3cret" not in result.output
