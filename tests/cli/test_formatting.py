"""Text and JSON as commands print them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dagster_offload.cli.formatting import print_json


def test_json_has_times_in_iso_8601(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "where": Path("/x")})
    assert capsys.readouterr().out == '{\n  "at": "2026-01-02T03:04:05+00:00",\n  "where": "/x"\n}\n'
