"""A webhook: what arrives, how it is signed, and what is never sent or written down."""

import base64
import hashlib
import hmac
import logging

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.sinks.message import Message
from dagster_offload.sinks.webhook import Webhook, signing_key
from tests.support.sink_servers import Receiver

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
MESSAGE = Message("key-1", "hook", "a.txt", "v1", {"document": "a.txt", "summary": "난방비 secret words"})


@pytest.fixture
def hook(webhook: str) -> Webhook:
    return Webhook(webhook, SECRET, "bearer-1", 240.0)


@pytest.mark.rule("sink-5")
def test_a_record_is_signed_over_its_identifier_its_time_and_its_bytes(hook: Webhook, receiver: Receiver) -> None:
    hook.send(MESSAGE)
    [request] = receiver.got
    assert request.json["record"]["summary"] == "난방비 secret words"
    assert (
        request.headers["idempotency-key"]
        == request.headers["webhook-id"]
        == request.json["idempotency_key"]
        == "key-1"
    )
    assert request.headers["authorization"] == "Bearer bearer-1"
    signed = f"key-1.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.new(signing_key(SECRET), signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.rule("sink-5")
@pytest.mark.parametrize(
    ("status", "blame"),
    [
        (301, Blame.MISCONFIGURED),
        (307, Blame.MISCONFIGURED),
        (400, Blame.REFUSED),
        (401, Blame.MISCONFIGURED),
        (404, Blame.MISCONFIGURED),
        (409, Blame.REFUSED),
        (422, Blame.REFUSED),
        (429, Blame.UNAVAILABLE),
        (500, Blame.UNAVAILABLE),
        (503, Blame.UNAVAILABLE),
        (0, Blame.UNAVAILABLE),
    ],
)
def test_an_answer_says_whose_fault_it_is_and_no_reason_quotes_a_secret(
    hook: Webhook, webhook: str, receiver: Receiver, status: int, blame: Blame, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = status
    with caplog.at_level(logging.DEBUG), pytest.raises(SinkFault) as caught:
        hook.send(MESSAGE)
    assert caught.value.blame is blame
    assert len(receiver.seen) == 1, "a redirect was followed"
    for secret in ("private-path", "bearer-1", SECRET, "secret words", "quotes"):
        assert secret not in caught.value.reason
        assert secret not in caplog.text


@pytest.mark.rule("sink-5")
def test_a_reason_names_only_fields_that_were_sent(hook: Webhook, receiver: Receiver) -> None:
    receiver.status = 422
    receiver.error = {
        "idempotency_key": ["?"],
        "bearer_1": ["?"],
        "words_of_the_document_" * 1000: ["?"],
        "detail": "?",
    }
    with pytest.raises(SinkFault) as caught:
        hook.send(MESSAGE)
    assert caught.value.reason == "HTTP 422 about idempotency_key, detail"


@pytest.mark.parametrize(
    ("status", "token", "advice"),
    [
        (401, None, "HTTP 401: set `token`"),
        (401, "bearer-1", "HTTP 401: check its token"),
        (403, None, "HTTP 403: it may need a token: set `token`"),
        (403, "bearer-1", "HTTP 403: check its token and the permissions of its user"),
        (404, None, "HTTP 404: check its address"),
    ],
)
def test_the_advice_about_a_refusal_depends_on_whether_a_token_was_sent(
    webhook: str, receiver: Receiver, status: int, token: str | None, advice: str
) -> None:
    receiver.status = status
    with pytest.raises(SinkFault) as caught:
        Webhook(webhook, SECRET, token, 240.0).send(MESSAGE)
    assert caught.value.reason == advice


def test_a_server_that_is_not_there_is_unavailable(hook: Webhook) -> None:
    gone = Webhook("http://127.0.0.1:1/private-path", None, None, 240.0)
    with pytest.raises(SinkFault) as caught:
        gone.send(MESSAGE)
    assert (caught.value.blame, caught.value.reason) == (Blame.UNAVAILABLE, "connection refused")


def test_a_secret_that_is_not_base64_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        signing_key("whsec_not base64!")
    assert "not base64!" not in str(caught.value)
