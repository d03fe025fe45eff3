"""A long text is split in time linear in its length, regardless of its lines."""

import time
from collections.abc import Iterator

from benchmarks.rows import Benchmark, Row, at_most
from benchmarks.workspace import Workspace
from dagster_offload.stages.prompts.splitting import Size, split

SHORT, LONG = 200_000, 1_600_000
TURNS = 3
KINDS = {
    "sentences": "The lease begins on the first day of March and ends after two years.\n",
    "no blanks": "no-blanks",
    "lines of one digit": "1\n",
    "full stops": ". ",
    "Korean": "임대차 계약은 3월 1일에 시작하여 2년 후에 끝납니다.\n",
}


def long_against_short(_: Workspace) -> Iterator[Row]:
    figures: dict[str, float] = {}
    for kind, piece in KINDS.items():
        short, long = _seconds(piece, SHORT), _seconds(piece, LONG)
        figures[f"{kind}: ratio"] = long / short
    worst = max(figures.values())
    yield Row("splitting a text of 1.6 M against 200,000 characters: worst of 5", at_most(12), worst, figures)


def _seconds(piece: str, characters: int) -> float:
    text = piece * (characters // len(piece))
    found = []
    for _ in range(TURNS):
        began = time.process_time()
        split(text, (Size(0, 2_000),))
        found.append(time.process_time() - began)
    return min(found)


BENCHMARKS = (Benchmark("split", long_against_short),)
