"""A topic of ntfy: what is published, and what its refusals mean."""

from datetime import UTC, datetime

import pytest

from dagster_offload.notify.channel_message import ChannelMessage
from dagster_offload.notify.ntfy import Ntfy
from dagster_offload.sinks.faults import Blame, SinkFault
from tests.support.sink_servers import Receiver, serving

MESSAGE = ChannelMessage(
    "key-1", "phone", "needs_you", "1 document needs you", "failed: 편지.pdf", "box", datetime.now(UTC)
)


def test_a_message_is_published_with_its_title_and_the_token() -> None:
    receiver = Receiver()
    with serving(receiver.answer) as address:
        Ntfy(f"{address}/my-topic", "tk_1", 30.0).send(MESSAGE)
    [request] = receiver.got
    assert (request.method, request.path, request.body.decode()) == ("POST", "/my-topic", "failed: 편지.pdf")
    assert request.headers["title"] == "dagster-offload on box: 1 document needs you"
    assert (request.headers["authorization"], request.headers["tags"]) == ("Bearer tk_1", "warning")


@pytest.mark.parametrize(
    ("status", "blame"), [(403, Blame.MISCONFIGURED), (429, Blame.UNAVAILABLE), (0, Blame.UNAVAILABLE)]
)
def test_a_topic_that_takes_nothing_is_a_fault_without_its_address(status: int, blame: Blame) -> None:
    with serving(lambda _request: (status, None)) as address, pytest.raises(SinkFault) as caught:
        Ntfy(f"{address}/my-topic", None, 30.0).send(MESSAGE)
    assert (caught.value.blame, "my-topic" in caught.value.reason) == (blame, False)
