"""Rows that are small enough for every test run: a drain, a scan, and claims in a larger ledger."""

from functools import partial

from benchmarks.drains import Load, against_bare_client
from benchmarks.files import unchanged_scan
from benchmarks.rows import Benchmark, at_least
from benchmarks.sizes import claims_per_second

BENCHMARKS = (
    Benchmark("drain", partial(against_bare_client, Load(0.25, 4, seconds=4.0), at_least(0.97))),
    Benchmark("scan", partial(unchanged_scan, count=5_000)),
    Benchmark("claims", partial(claims_per_second, items=60_000)),
)
