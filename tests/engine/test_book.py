"""A book of 600 pages in 400 parts, interrupted 20 times at random: no answered part is sent again."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter

import pytest

from dagster_offload.simulator.answers import MERGE, PART
from dagster_offload.stages.graph import SUMMARIZE
from dagster_offload.stages.prompts.splitting import Size, split
from dagster_offload.testing import ChangeTiming
from dagster_offload.text.tokens import text_tokens
from tests.support.engine import Engine
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

PARTS = 400
CONTEXT = 3_100
ENGLISH = "On day {n} the landlord of house {n} wrote to the tenant of flat {n} about the rent of {n} pounds. "
KOREAN = "{n}일에 {n}호의 집주인은 세입자에게 월세 {n}만 원에 대하여 편지를 썼다. "

# The kinds of stop and their numbers. All but the last three may cost the open call.
STOPS = {"killed": 3, "terminated": 3, "cut": 4, "cold": 5, "lost": 3, "run": 2}
COST_A_CALL = {"killed", "terminated", "cut", "lost"}  # the answer of a lost worker is not accepted

# As in `dagster-offload drain`, SIGTERM has the effect of Ctrl-C.
DRAIN = """
import signal, sys
from dagster_offload.drain import run_drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.settings import load_settings
signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
with Ledger(sys.argv[1]) as ledger:
    run_drain(load_settings(), ledger)
"""


def book() -> str:
    chapters = []
    for number in range(1, PARTS + 1):
        title, sentence, times = ("제{n}장", KOREAN, 22) if number % 2 else ("Chapter {n}", ENGLISH, 24)
        chapters.append(f"{title}\n\n{sentence * times}\n\n".format(n=number))
    return "".join(chapters)


class Reader:
    """Reads the book with one drain after the other and stops each."""

    def __init__(self, engine: Engine, ledger_url: str) -> None:
        self.engine, self.ledger_url = engine, ledger_url
        self.letters = 0

    def done(self) -> int:
        return int(self.engine.item("book.txt", SUMMARIZE)["parts_done"])

    def stop(self, how: str, after_parts: int) -> None:
        answers = self.engine.router.log()["answers"] + after_parts
        if how in {"killed", "terminated"}:
            self._stop_process(answers, signal.SIGKILL if how == "killed" else signal.SIGTERM)
            return
        drain = self.engine.beside(self.engine.drain)
        self.engine.router.wait(answers=answers, timeout=PATIENCE_SECONDS)
        if how == "lost":
            self.engine.die(self._worker())
        elif how == "run":
            self.letters += 1
            assert self.engine.run(f"letter-{self.letters}.txt").done == 1
            self.engine.router.set(mode="cold")
        else:
            self.engine.router.set(mode=how)
        drain.result()
        self.engine.router.set(mode="awake")
        self.engine.retry_now()
        self.engine.make_due()

    def _stop_process(self, answers: int, signum: int) -> None:
        options = {f"OFFLOAD_{name.upper()}": str(value) for name, value in self.engine.options.items()}
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), **options}
        command = [sys.executable, "-c", DRAIN, self.ledger_url]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            self.engine.router.wait(answers=answers, timeout=PATIENCE_SECONDS)
            worker = self._worker()
            process.send_signal(signum)
            process.wait()
        if signum == signal.SIGKILL:
            self.engine.die(worker)

    def _worker(self) -> int:
        (row,) = self.engine.sql("select worker_id from workers where kind = 'drain' and ended_at is null")
        return int(row["worker_id"])


@pytest.mark.rule("answer-3")
@pytest.mark.parametrize("seed", [2026])
def test_a_book_interrupted_20_times_costs_its_parts_and_the_calls_in_flight(
    engine: Engine, ledger_url: str, seed: int, change_timing: ChangeTiming
) -> None:
    change_timing(heartbeat=0.2)  # a lost worker learns it from its heartbeat
    text = book()
    assert len(split(text, (Size(0, text_tokens(CONTEXT)),))) == PARTS
    engine.options["deep_context_tokens"] = CONTEXT
    letters = {f"letter-{n}.txt": f"Dear number {n}, " for n in (1, 2)}
    engine.extracted("book.txt", texts={"book.txt": text})
    engine.router.set(latency=0.002)
    chance = random.Random(seed)
    stops = chance.sample([how for how, times in STOPS.items() for _ in range(times)], k=20)
    reader = Reader(engine, ledger_url)
    reached = 0
    for how in stops:
        if how == "run":
            engine.extracted(f"letter-{reader.letters + 1}.txt", texts=letters)
        reader.stop(how, chance.randint(2, 14))
        assert reader.done() >= reached, "a stop loses no answered part"
        reached = reader.done()
        assert engine.item("book.txt", SUMMARIZE)["attempts"] == 0
    assert 60 < reached < PARTS, "every stop happened before the book was done"

    engine.drain()
    assert engine.counts(SUMMARIZE).done == 3

    asked = [entry for entry in engine.router.completions() if entry["outcome"] != "refused"]
    parts = Counter(entry["document"] for entry in asked if entry["asked_about"] == PART)
    in_flight = sum(how in COST_A_CALL for how in stops)
    assert len(parts) == PARTS
    assert sum(parts.values()) <= PARTS + in_flight
    merges = Counter(entry["document"] for entry in asked if entry["asked_about"] == MERGE)
    assert set(merges.values()) == {1}
    (result,) = engine.sql("select value from results where stage = 'summarize' and value ? 'parts'")
    assert (result["value"]["parts"], result["value"]["parts_read"]) == (PARTS, PARTS)
    assert len(engine.sql("select 1 from outbox where stage = 'summarize' and state is null")) == 3
    print(f"{sum(parts.values())} calls for {PARTS} parts, {len(merges)} merges, {in_flight} stops with a call open")
