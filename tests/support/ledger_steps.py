"""Steps that write to the ledger: each function prepares a ledger and returns the step that must be done once."""

import time
from collections.abc import Callable
from typing import Any

from dagster_offload.ledger.core import workers
from dagster_offload.ledger.core.rows import Claim
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.slots import breaker, permits, slots
from dagster_offload.ledger.slots.breaker import TrialEnd
from dagster_offload.ledger.work import claims, deferrals, documents, suspects
from dagster_offload.ledger.work import finish as results
from dagster_offload.ledger.work import redo as requests
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, EXTRACT
from tests.support.ledger import RECIPES, SLOT, Bench, call, hold_stage, record_result, text_result
from tests.support.stages import DRAIN_STAGES

Step = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def step(function: Callable[..., Any], *arguments: Any, **options: Any) -> Step:
    return function, arguments, options


def held(bench: Bench, *stages: str) -> tuple[int, Claim]:
    bench.extracted("a.txt")
    worker = bench.worker()
    return worker, bench.hold(worker, stages or DRAIN_STAGES)


def take(bench: Bench) -> Step:
    bench.extracted("a.txt", "b.txt")
    return step(claims.take, bench.worker(), DRAIN_STAGES, RECIPES, count=1)


def release(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(claims.release, worker, claim, "given back")


def postpone(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(claims.postpone, worker, claim, "later", 60.0)


def finish(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(results.finish, worker, [results.Finish(claim, claim.items[0], record_result("words"))], RECIPES, None)


def finish_text(bench: Bench) -> Step:
    bench.put("a.txt")
    worker = bench.worker("scan")
    claim = bench.hold(worker, [EXTRACT])
    return step(results.finish, worker, [results.Finish(claim, claim.items[0], text_result("text"))], RECIPES, None)


def finish_again(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.finish(worker, claim)
    bench.ledger.run(claims.release, worker, claim, "for the redo")
    bench.redo([claim.items[0].stage], ["a.txt"])
    again = bench.hold(worker)
    return step(
        results.finish, worker, [results.Finish(again, again.items[0], record_result("other words"))], RECIPES, None
    )


def record_call(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(results.record_call, worker, claim, claim.items[0], call())


def defer(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(deferrals.open_and_defer, worker, claim, claim.items[0], call(1, "cold"), "cold", None, 60.0)


def slot_fault(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(suspects.suspect, worker, claim, claim.items[0], call(1, "http_500"), "500")


def fail(bench: Bench) -> Step:
    worker, claim = held(bench)
    fault = call(1, "empty_answer")
    return step(deferrals.fail, worker, claim, claim.items[0], "empty_answer", "why", fault, is_final=False)


def fail_and_hold(bench: Bench) -> Step:
    """The fifth document in a row that ends in this fault."""
    keys = [f"{n}.txt" for n in range(5)]
    bench.extracted(*keys)
    worker = bench.worker()
    for key in keys[:4]:
        bench.fail(worker, bench.hold(worker, [CLASSIFY], keys=[key]))
    claim = bench.hold(worker, [CLASSIFY], keys=keys[4:])
    fault = call(1, "empty_answer")
    return step(deferrals.fail, worker, claim, claim.items[0], "empty_answer", "why", fault, is_final=False)


def end_holds(bench: Bench) -> Step:
    bench.extracted("a.txt", "b.txt")
    hold_stage(bench.ledger, CLASSIFY, "empty_answer")
    return step(slots.try_again, DEEP, "requested by command")


def note_cut(bench: Bench) -> Step:
    _, claim = held(bench)
    return step(suspects.note_cut, DEEP, 1, claim.items[0], "cut")


def suspect(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.ledger.run(suspects.note_cut, DEEP, 1, claim.items[0], "cut")
    bench.close_breaker()
    return step(suspects.suspect, worker, claim, claim.items[0], call(1, "cut"), "cut")


def acquire(bench: Bench) -> Step:
    return step(permits.acquire, DEEP, bench.worker(), is_person=False)


def acquire_the_last(bench: Bench) -> Step:
    bench.acquire(bench.worker())
    return step(permits.acquire, DEEP, bench.worker(), is_person=False)


def release_permit(bench: Bench) -> Step:
    worker = bench.worker()
    bench.acquire(worker)
    bench.acquire(worker)
    return step(permits.release, DEEP, worker)


def give_up(bench: Bench) -> Step:
    worker = bench.worker()
    bench.acquire(worker)
    bench.acquire(worker)
    bench.acquire(bench.worker("run"), is_person=True)
    return step(permits.give_up_if_wanted, DEEP, worker, is_person=False)


def open_breaker(bench: Bench) -> Step:
    return step(breaker.open_breaker, DEEP, 1, "cold", None)


def busy(bench: Bench) -> Step:
    bench.ledger.run(breaker.count_busy, DEEP, 1, "busy", None, time.monotonic())
    return step(breaker.count_busy, DEEP, 1, "busy", None, time.monotonic())


def opened(bench: Bench) -> int:
    bench.ledger.run(breaker.open_breaker, DEEP, 1, "cold", None, at_once=True)
    return bench.worker()


def begin_trial(bench: Bench) -> Step:
    return step(breaker.begin_trial, DEEP, opened(bench), 1, bench.slot().fingerprint)


def trial_answered(bench: Bench) -> Step:
    worker = opened(bench)
    bench.begin_trial(worker, 1)
    return step(breaker.end_trial, DEEP, worker, 1, TrialEnd(True, "ok"), SLOT.url)


def trial_refused(bench: Bench) -> Step:
    worker = opened(bench)
    bench.begin_trial(worker, 1)
    return step(breaker.end_trial, DEEP, worker, 1, TrialEnd(False, "warming"), SLOT.url)


def register_worker(bench: Bench) -> Step:
    return step(workers._register, "drain", DRAIN_STAGES, None)


def deregister(bench: Bench) -> Step:
    worker, _ = held(bench)
    bench.acquire(worker)
    return step(workers._deregister, worker)


def reclaim(bench: Bench) -> Step:
    worker, _ = held(bench)
    bench.acquire(worker)
    bench.sql("update workers set heartbeat_at = heartbeat_at - interval '1 hour' where worker_id = %s", worker)
    return step(workers._reclaim, worker, innocent_end=None)


def retry(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.fail(worker, claim, is_final=True)
    return step(requests.retry, DRAIN_STAGES)


def end_waits(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.fail(worker, claim)
    return step(requests.end_waits, DRAIN_STAGES)


def redo(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.finish(worker, claim)
    return step(requests.redo, requests.Redo({claim.items[0].stage: "new"}))


def redo_outdated(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.finish(worker, claim)
    return step(requests.redo, requests.Redo({**RECIPES, claim.items[0].stage: "new"}, only_outdated=True))


def gone(bench: Bench) -> Step:
    held(bench)
    return step(documents.mark_gone, ["a.txt"])


def begin_scan(bench: Bench) -> Step:
    return step(documents.begin_scan)


def report_under_run(bench: Bench) -> Step:
    bench.extracted("a.txt")
    return step(outbox.report_under_run, "run", ["a.txt"], [EXTRACT])


STEPS = (
    take, release, postpone, finish, finish_text, finish_again, record_call, defer, slot_fault, fail, fail_and_hold, end_holds,
    note_cut, suspect, acquire, acquire_the_last, release_permit, give_up, open_breaker, busy, begin_trial, trial_answered,
    trial_refused, register_worker, deregister, reclaim, retry, end_waits, redo, redo_outdated, gone, begin_scan,
    report_under_run,
)  # fmt: skip
