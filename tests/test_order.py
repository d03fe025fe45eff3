"""The order of the tests: those that wait for processes run beside those that compute."""

from types import SimpleNamespace
from typing import Any

from tests.support.needs import TESTS, in_order


def items(folder: str, files: int) -> list[Any]:
    """Two tests in each of these files."""
    return [
        SimpleNamespace(path=TESTS / folder / f"test_{file:02}.py", name=name)
        for file in range(files)
        for name in ("first", "second")
    ]


def test_files_that_wait_are_spread_among_the_first_two_thirds_of_the_others() -> None:
    found = in_order([*items("acceptance", 5), *items("cli", 20), *items("engine", 10)])
    assert [item.path.parent.name for item in found[::2]] == [
        *["acceptance", *4 * ["engine"]],
        *["acceptance", *4 * ["engine"]],
        *["acceptance", *2 * ["engine"], *2 * ["cli"]],
        *["acceptance", *4 * ["cli"]],
        *["acceptance", *14 * ["cli"]],
    ]


def test_the_tests_of_a_file_stay_together_in_their_order_and_none_is_lost() -> None:
    given = [*items("stages", 3), *items("acceptance", 2), *items("docs", 1)]
    found = in_order(list(given))
    assert [item.name for item in found] == ["first", "second"] * 6
    assert sorted(map(id, found)) == sorted(map(id, given))
    assert all(first.path == second.path for first, second in zip(found[::2], found[1::2], strict=True))


def test_without_others_the_files_that_wait_run_one_after_another() -> None:
    given = items("acceptance", 3)
    assert in_order(list(given)) == given
