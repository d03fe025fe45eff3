"""What a process that is all ours does not log: a command, `up`, the code server and the runs that it forks."""

import contextlib
import logging
from collections.abc import Iterator

# `postgres/embedded/server.py`. Its import takes long, and most commands start no Postgres.
STARTS = "dagster_offload.postgres.embedded.server.starts"


def leave_out_driver_warnings() -> None:
    """Log only errors of the driver. All connections are ours: `ledger/core/outage.py` writes our own line about each outage."""
    for name in ("psycopg", "psycopg_pool"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def without_start_lines() -> Iterator[None]:
    """Log no start of an embedded Postgres in the block: for `up`, which has lines of its own and stops it, and for `--quiet`."""
    starts = logging.getLogger(STARTS)
    before = starts.level
    starts.setLevel(logging.ERROR)
    try:
        yield
    finally:
        starts.setLevel(before)


def leave_out_starts_under_up() -> None:
    """Log no start of an embedded Postgres while `up` runs on its home: `up` says so itself, and stops it later."""
    logging.getLogger(STARTS).addFilter(_is_without_up)


def _is_without_up(start: logging.LogRecord) -> bool:
    from dagster_offload.errors import SettingsError
    from dagster_offload.service.home import running_up

    home, *_ = start.args  # type: ignore[misc]
    with contextlib.suppress(SettingsError):
        return running_up(home) is None  # type: ignore[arg-type]
    return True
