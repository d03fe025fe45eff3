"""Whatever happens to a sink and to its sender: each record arrives, repetitions have one key, and a document's versions
arrive in order."""

import contextlib
import itertools
import os
import signal
import subprocess
import threading
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagster_offload.host.python_process import python_command, python_environment
from dagster_offload.ledger.work import corrections
from dagster_offload.ledger.work.corrections import NewValue
from dagster_offload.sinks.build import build
from dagster_offload.sinks.sender import send_due
from dagster_offload.stages.catalog import recipes
from tests.sinks.conftest import Sinks
from tests.support.sink_servers import Receiver, Request, serving

DOCUMENTS = ("a.txt", "b.txt", "c.txt")
examples = itertools.count()

Step = tuple[str, Any]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.sampled_from(DOCUMENTS)),
        st.tuples(st.just("send"), st.none()),
        st.tuples(st.just("kill"), st.integers(1, 3)),  # the sender dies after so many requests were answered
        st.tuples(st.just("down"), st.sampled_from([0, 500, 503, 429, 404])),
        st.tuples(st.just("up"), st.none()),
    ),
    max_size=12,
)


class Killed(BaseException):
    """The sender ends after the server has answered and before the ledger knows it."""


class World:
    """One sink, its server, and what each document's record was changed to."""

    def __init__(self, sinks: Sinks, receiver: Receiver) -> None:
        self.sinks = sinks
        self.receiver = receiver
        self.expected: dict[str, list[str]] = {document: [] for document in DOCUMENTS}

    def change(self, document: str) -> None:
        title = f"title {next(examples)}"
        engine = self.sinks.engine
        value = [NewValue("summarize", "title", title)]
        engine.ledger.run(corrections.correct, document, value, None, recipes(engine.settings()))
        self.expected[document].append(title)

    def send(self, answers: int | None = None) -> None:
        """Send what is due; the sender is killed after so many answers."""
        engine = self.sinks.engine
        sink = build(engine.settings(), "hook")
        send = sink.send

        def send_and_die(message: Any) -> Any:
            nonlocal answers
            written = send(message)
            answers = None if answers is None else answers - 1
            if answers == 0:
                raise Killed
            return written

        sink.send = send_and_die  # type: ignore[method-assign]
        with contextlib.suppress(Killed):
            send_due(engine.settings(), engine.ledger, "hook", sink)

    def check(self) -> None:
        titles: dict[str, list[str]] = defaultdict(list)
        content: dict[str, bytes] = {}
        for request in self.receiver.got:
            message = request.json
            assert content.setdefault(message["idempotency_key"], request.body) == request.body
            seen = titles[message["document"]]
            if not seen or seen[-1] != message["record"]["title"]:
                seen.append(message["record"]["title"])
        for document in DOCUMENTS:
            wanted = iter(self.expected[document])
            assert all(title in wanted for title in titles[document]), "a version came out of order, or again"
            if self.expected[document]:
                assert titles[document][-1] == self.expected[document][-1], "the newest record did not arrive"


@pytest.mark.rule("sink-1", "sink-2")
def test_each_record_arrives_in_order_and_repetitions_have_one_key(
    sinks: Sinks, webhook: str, receiver: Receiver
) -> None:
    sinks.use(hook={"webhook": webhook})
    sinks.answered(*DOCUMENTS)
    sinks.send("hook")

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def holds(steps: list[Step]) -> None:
        receiver.got.clear()
        receiver.status = 200
        world = World(sinks, receiver)
        for name, argument in steps:
            if name == "change":
                world.change(argument)
            elif name == "send":
                world.send()
            elif name == "kill":
                world.send(argument)
            else:
                receiver.status = argument if name == "down" else 200  # 0: it hangs up
            sinks.end_waits()
        receiver.status = 200
        sinks.end_waits()
        world.send()
        world.check()
        assert not sinks.engine.sql("select 1 from deliveries where state <> 'sent'")

    holds()


@pytest.mark.slow
@pytest.mark.rule("sink-1")
def test_a_sender_process_that_is_killed_in_a_request_repeats_that_record_with_its_key(
    sinks: Sinks, ledger_url: str
) -> None:
    arrived, may_answer, keys = threading.Event(), threading.Event(), []

    def answer(request: Request) -> tuple[int, Any]:
        keys.append((request.json["document"], request.json["idempotency_key"]))
        if len(keys) == 2:
            arrived.set()
            may_answer.wait(240)
        return 200, None

    with serving(answer) as address:
        sinks.use(hook={"webhook": address})
        sinks.answered(*DOCUMENTS)
        engine = sinks.engine
        command = python_command("-m", "dagster_offload.cli", "sink", "send")
        environment = {
            **python_environment(),
            "OFFLOAD_HOME": str(engine.options["home"]),
            "OFFLOAD_CONFIG": str(engine.options["config"]),
            "OFFLOAD_POSTGRES_URL": ledger_url,
        }
        sender = subprocess.Popen(command, env=environment)
        assert arrived.wait(240)
        os.kill(sender.pid, signal.SIGKILL)
        sender.wait()
        may_answer.set()
        again = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "hook: 2 sent" in again.stdout
    assert [document for document, _ in keys] == ["a.txt", "b.txt", "b.txt", "c.txt"]
    assert keys[1] == keys[2]
