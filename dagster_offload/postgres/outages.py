"""What an error of an unavailable Postgres means for the person who can end the outage."""

import re

import psycopg
from psycopg_pool import PoolTimeout

# Refused connections carry no error code in libpq, so their text is matched.
_ADVICE = (
    (
        r"no space left on device|disk quota exceeded|could not extend file",
        "free some space on the disk of the Postgres data",
    ),
    (
        r"too many clients|remaining connection slots|too many connections",
        "close other programs that use this Postgres, or raise its max_connections",
    ),
    (
        r"password authentication failed|no password supplied|no pg_hba\.conf entry",
        "correct the user and the password in OFFLOAD_POSTGRES_URL, or Postgres' access rules",
    ),
    (
        r"in a read-only transaction",
        "make Postgres writable again: its disk may be nearly full, or this address may lead to a standby",
    ),
    (
        # Only of a socket: a Postgres that answers may miss a file of its own, in the same words.
        r"connection refused|on socket .*no such file or directory|failed to resolve|could not translate|timeout",
        "start Postgres if it is your own; if it has a new address, change OFFLOAD_POSTGRES_URL",  # ours is restarted
    ),
)
# Of a refused connection: only another setting helps.
_NEEDS_A_SETTING = r"password|pg_hba\.conf|does not exist|certificate|ssl"
# Classes of SQLSTATE: connection, out of resources, ended by an operator, and system errors.
_OUTAGE_CLASSES = ("08", "53", "57", "58")
# 25P03 and 25P04 end a transaction of a frozen process. 25006: Postgres permits no writing now.
_OUTAGE_CODES = ("25006", "25P03", "25P04")


def describe_outage(error: BaseException) -> str:
    """The first line of the error and, if the cause is known, what ends the outage."""
    lines = str(error).strip().splitlines()
    line = lines[0].strip() if lines else type(error).__name__
    for pattern, advice in _ADVICE:
        if re.search(pattern, line, re.IGNORECASE):
            return f"{line}: {advice}"
    return line


def is_outage(error: BaseException) -> bool:
    """Whether the same statement can succeed once Postgres is available again. False for a statement beyond its limits."""
    if isinstance(error, PoolTimeout):
        return True
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    # Without a code, the connection was lost or refused.
    return code is None or code[:2] in _OUTAGE_CLASSES or code in _OUTAGE_CODES


def is_down(error: BaseException) -> bool:
    """Whether a connection was refused for a reason that passes: Postgres does not answer, starts, or has no connection left."""
    return is_outage(error) and not re.search(_NEEDS_A_SETTING, str(error), re.IGNORECASE)
