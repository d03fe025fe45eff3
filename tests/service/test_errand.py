"""The step of `up` that may take long: what it returned is used before it starts again."""

from collections.abc import Iterator

from dagster_offload.service.errand import Errand


def test_what_a_step_returned_is_given_out_before_the_next_one_starts() -> None:
    started: list[int] = []

    def step() -> int:
        started.append(len(started))
        return len(started)

    errand = Errand(step)
    assert errand.check() is None
    errand.wait()
    errand.due_at = float("-inf")  # the step took longer than the time between two
    assert errand.check() == 1
    errand.wait()
    assert started == [0], "the next step reads what the caller has not yet changed"
    assert list(_next(errand)) == [None, 2]


def _next(errand: Errand[int]) -> Iterator[int | None]:
    yield errand.check()
    errand.wait()
    yield errand.check()
