"""The kinds of failure, and the pause before a trial that got a 429 is repeated. No slot and no ledger."""

import httpx
import pytest

from dagster_offload.client.trial import TrialVerdict
from dagster_offload.engine.lanes.blame import Failure, failure_of
from dagster_offload.engine.slot.breaker import busy_pause
from dagster_offload.errors import CutAnswer, CutBySleep, MalformedAnswer, SettingsError, SlotFrozen, WrongModel
from dagster_offload.timing import Timing


def status(code: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://slot:1")
    return httpx.HTTPStatusError("refused", request=request, response=httpx.Response(code, request=request))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (status(503), Failure.REFUSED),
        (status(429), Failure.REFUSED),
        (httpx.ConnectError("refused"), Failure.REFUSED),
        (WrongModel("some/tiny"), Failure.REFUSED),
        (SlotFrozen("no answer to 3 probes"), Failure.REFUSED),
        (status(502), Failure.CUT),
        (status(408), Failure.CUT),
        (httpx.ReadTimeout("no answer in time"), Failure.CUT),
        (CutAnswer("its body is not whole JSON"), Failure.CUT),
        (status(402), Failure.UNPAID),
        (status(404), Failure.ERROR),
        (status(500), Failure.ERROR),
        (MalformedAnswer("no choices"), Failure.ERROR),
        (CutBySleep(), Failure.SLEPT),
        (SettingsError("OFFLOAD_DEEP_CA_FILE: no certificate"), Failure.UNSENT),
    ],
)
def test_a_failure_is_a_refusal_a_cut_or_an_error(error: Exception, expected: Failure) -> None:
    assert failure_of(error) is expected


BUSY = TrialVerdict(False, "HTTP 429", busy=True)


@pytest.mark.rule("breaker-8")
def test_a_trial_that_got_a_429_is_repeated_after_retry_after_or_five_seconds() -> None:
    assert busy_pause(BUSY, 2) == Timing().busy_pause
    assert busy_pause(TrialVerdict(False, "HTTP 429", busy=True, retry_after_seconds=7.0), 2) == 7.0


@pytest.mark.parametrize(
    ("found", "waits_left"),
    [
        (BUSY, 0),
        (TrialVerdict(False, "HTTP 429", busy=True, retry_after_seconds=3600.0), 2),
        (TrialVerdict(False, "warming"), 2),
        (TrialVerdict(True, "answered"), 2),
    ],
)
def test_a_trial_with_any_other_result_is_not_repeated(found: TrialVerdict, waits_left: int) -> None:
    assert busy_pause(found, waits_left) is None
