"""`up` restarts its Postgres when it ends, and reports it."""

import threading
from pathlib import Path

from dagster_offload.service.postgres_keeper import KeptPostgres


def test_up_restarts_a_postgres_that_ended_and_names_its_log(tmp_path: Path) -> None:
    revived, messages = threading.Event(), list[str]()
    KeptPostgres(tmp_path, revived.set, messages.append).check()
    assert revived.wait(10)
    assert messages == [f"Postgres ended; restarting it. Log: {tmp_path / 'postgres' / 'server.log'}"]
