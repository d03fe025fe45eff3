"""`up` looks after its Postgres, and says so when it has died."""

import threading
from pathlib import Path

from dagster_offload.service.postgres_keeper import KeptPostgres


def test_a_postgres_that_died_is_started_again_and_up_says_where_its_log_is(tmp_path: Path) -> None:
    revived, said = threading.Event(), list[str]()
    KeptPostgres(tmp_path, revived.set, said.append).check()
    assert revived.wait(10)
    assert said == [f"Postgres ended; restarting it. Log: {tmp_path / 'postgres' / 'server.log'}"]
