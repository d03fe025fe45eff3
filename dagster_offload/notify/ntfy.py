"""A topic of an ntfy server as a channel: https://docs.ntfy.sh/publish/. The title is a header, the message is the body."""

from dagster_offload.notify.channel_message import ChannelMessage
from dagster_offload.sinks.faults import check_answer
from dagster_offload.sinks.http_server import HttpServer

# Names of https://docs.ntfy.sh/emojis/, and priorities from 1 to 5.
_TAGS = {"done": "white_check_mark", "needs_you": "warning", "misconfigured": "wrench", "away": "zzz"}
_PRIORITIES = {"done": "2", "misconfigured": "4"}


class Ntfy:
    """Publishes messages to one topic."""

    def __init__(self, topic: str, token: str | None, timeout: float) -> None:
        """`topic`: its whole address."""
        self._topic = topic
        headers = {"content-type": "text/plain; charset=utf-8"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        self._server = HttpServer(headers, timeout, cuts_answers=True)

    def send(self, message: ChannelMessage) -> None:
        """Publish a message. Raises `SinkFault`."""
        headers = {
            "title": message.subject.encode("ascii", "replace").decode(),
            "tags": _TAGS.get(message.event, "bell"),
            "priority": _PRIORITIES.get(message.event, "3"),
        }
        check_answer(self._server.request("POST", self._topic, content=message.message.encode(), headers=headers))

    def cancel(self) -> None:
        """A request in flight ends by itself, at its time limit at the latest."""
