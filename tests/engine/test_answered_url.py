"""A reason names the URL as a setting to check only while the slot has not answered at it."""

import pytest

from tests.support.engine import Engine

KEYS = [f"{n}.txt" for n in range(8)]


@pytest.mark.rule("slot-15")
def test_a_refused_connection_does_not_name_the_url_at_which_the_slot_has_answered(engine: Engine) -> None:
    engine.texts(*KEYS)
    assert engine.drain(limit=1).done == 1
    engine.router.stop()
    engine.drain()
    assert engine.slot().reason == "connection refused"
    moved = engine.router.url.replace("127.0.0.1", "localhost")
    engine.sql("update slots set breaker = 'closed'")
    engine.drain(deep_url=moved)
    assert engine.slot().reason == "connection refused (check OFFLOAD_DEEP_URL)"
    engine.router.start()


@pytest.mark.rule("slot-15")
def test_a_trial_that_was_answered_shows_that_the_url_is_right_and_no_password_of_it_is_stored(engine: Engine) -> None:
    engine.texts(*KEYS)
    url = engine.router.url.replace("//", "//ada:s3cret@")
    engine.router.set(mode="cold")
    assert engine.drain(deep_url=url).is_slot_unavailable
    assert engine.sql("select answered_url from slots") == [{"answered_url": None}]
    engine.router.set(mode="awake")
    engine.retry_now()
    engine.drain(deep_url=url, limit=1)
    assert engine.sql("select answered_url from slots") == [{"answered_url": engine.router.url}]
