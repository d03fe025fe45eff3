"""The table of a million documents: slopes are between the smallest and the largest ledger."""

from benchmarks.million import MEASURES, table


def test_the_slope_continues_to_ten_times_the_largest_size() -> None:
    found = {size: {measure.name: 2.0 + size / 1_000 for measure in MEASURES} for size in (1_000, 10_000, 100_000)}
    head, _, first, *others = table(found).splitlines()
    assert head == "| documents | 1,000 | 10,000 | 100,000 | per million more | 1,000,000 on paper |"
    assert first == f"| {MEASURES[0].name}, {MEASURES[0].unit} | 3 | 12 | 102 | 1,000 | 1,002 |"
    assert len(others) == len(MEASURES) - 1
