"""The worker's machine sleeps while a call is open, and the connection does not survive it."""

import pytest

from tests.support.engine import Engine, attempts, outcomes


@pytest.mark.rule("suspect-1")
def test_calls_that_are_cut_because_this_machine_slept_accuse_neither_document_nor_slot(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.extracted("a.txt", texts={"a.txt": "ACCUSED"})
    engine.router.set(cut_documents=["ACCUSED"], cut="mid_body")
    sleeps = iter(range(0, 480, 60))

    def sleep() -> float:
        slept = float(next(sleeps, 480))
        if slept == 480:
            engine.router.set(cut_documents=[])
        return slept

    monkeypatch.setattr("dagster_offload.engine.lanes.document.seconds_slept", sleep)
    assert engine.drain("classify").done == 1
    assert outcomes(engine) == {"machine_slept": 4, "ok": 1}
    assert (attempts(engine), engine.sql("select * from cuts")) == (0, [])
    assert engine.slot().epoch == 1, "the breaker was not opened"
