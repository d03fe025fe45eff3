"""What psycopg logs in a process that is all ours: a command, `up`, the code server and the runs that it forks."""

import logging


def leave_out_driver_warnings() -> None:
    """Log only errors of the driver. All connections are ours: `ledger/core/outage.py` writes our own line about each outage."""
    for name in ("psycopg", "psycopg_pool"):
        logging.getLogger(name).setLevel(logging.ERROR)
