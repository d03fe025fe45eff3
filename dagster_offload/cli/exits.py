"""How a command reports an error: one line, an exit code, and no traceback on the terminal."""

import errno
import os
import select
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import IO, Any

import click

from dagster_offload.cli.typed import with_options
from dagster_offload.errors import LedgerAway, OffloadError, SettingsError, StageDeferred
from dagster_offload.text.lines import first_line
from dagster_offload.text.plain_text import escaped, escaped_lines

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
WANTS_JSON = "dagster_offload.wants_json"  # key in click's `meta`, set by `--json`


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    OK = 0  # nothing is left that this command could do now
    INTERNAL_ERROR = 1  # a bug in dagster-offload
    REFUSED = 2  # wrong usage, or a setting or state that the message names
    UNREADABLE_FILE = 65  # `text` only: at least one file cannot be read (EX_DATAERR)
    UNAVAILABLE = 75  # a slot, a sink, a channel or the ledger is unavailable for now (EX_TEMPFAIL of sysexits.h)
    MISCONFIGURED = 78  # EX_CONFIG
    INTERRUPTED = 130  # Ctrl-C: the code shells use


# By `Blame` of a sink or a channel of notifications.
EXIT_CODE_OF_FAULT = {
    "unavailable": ExitCode.UNAVAILABLE,
    "misconfigured": ExitCode.MISCONFIGURED,
    "refused": ExitCode.REFUSED,
}


class Refusal(click.ClickException):
    """An error, one line a fault. With `--json`, standard output still gets exactly one object.

    `done`: further keys of this object, about what the command did before it was refused.
    """

    def __init__(
        self,
        message: str,
        exit_code: int = ExitCode.REFUSED,
        more: Sequence[str] = (),
        done: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__("\n".join(escaped(" ".join(line.split())) for line in (message, *more)))
        self._done = dict(done or {})
        self.exit_code = exit_code  # type: ignore[misc] # click reads it from the instance
        ctx = click.get_current_context(silent=True)
        self._wants_json = bool(ctx and ctx.meta.get(WANTS_JSON))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message on standard error and, with `--json`, an object with `error` and `exit_code`."""
        for line in self.message.splitlines():
            click.echo(f"dagster-offload: {line}", file=file, err=file is None)
        if self._wants_json:
            from dagster_offload.cli.formatting import as_json

            try:
                click.echo(as_json(self._done | {"error": self.message, "exit_code": self.exit_code}))
            except OSError:  # the reader is gone, or its disk is full; flushing the buffer at exit would fail again
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refusal(error: BaseException) -> Refusal:
    """The message and exit code for `error`. An unexpected error is written to a log, and the message names the log."""
    ctx = click.get_current_context(silent=True)
    if isinstance(error, KeyboardInterrupt):
        return Refusal("interrupted; nothing is lost", ExitCode.INTERRUPTED)
    if isinstance(error, (StageDeferred, LedgerAway)):
        return Refusal(str(error), ExitCode.UNAVAILABLE)
    if isinstance(error, SettingsError) and error.args:
        first, *more = (with_options(str(fault), ctx) for fault in error.args)
        return Refusal(first, ExitCode.REFUSED, more)
    if isinstance(error, OffloadError):
        return Refusal(with_options(str(error), ctx), ExitCode.REFUSED)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        where = f" for {error.filename}" if error.filename else ""
        return Refusal(
            f"no space is left on the disk{where}: free some space, then run the command again. Nothing is lost"
        )
    if (outage := _outage(error)) is not None:
        return Refusal(f"{outage}. Nothing is lost", ExitCode.UNAVAILABLE)
    log = _write_to_log(error)
    what = f"{type(error).__name__}: {first_line(error)}"
    return Refusal(
        f"{what} - this is a bug in dagster-offload; please report it. Details: {log}", ExitCode.INTERNAL_ERROR
    )


def _outage(error: BaseException) -> str | None:
    """What ends the outage of Postgres that this error is; None if it is something else. The ledger waits for most of them, but
    not where the database is created or migrated."""
    if "psycopg" not in sys.modules:
        return None
    from psycopg import OperationalError

    from dagster_offload.postgres.outages import describe_outage, is_outage

    return describe_outage(error) if isinstance(error, OperationalError) and is_outage(error) else None


def is_broken_pipe(error: BaseException) -> bool:
    """Whether `error` means that the reader of standard output is gone, as in `status | head -1`. That is not a fault.

    The pipe itself is checked, because writing to a child process or a server raises the same error.
    """
    if not isinstance(error, BrokenPipeError):
        return False
    try:
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)  # poll always reports a pipe without a reader
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0))
    except (OSError, ValueError):  # standard output is not a file, or is closed
        return False


def _write_to_log(error: BaseException) -> Path | str:
    from dagster_offload.service.home import keep_log_small, log_folder
    from dagster_offload.settings import default_home, load_settings

    try:
        home = load_settings().home
    except OffloadError:
        home = default_home()
    frames = "".join(traceback.format_tb(error.__traceback__))
    when, what = datetime.now().astimezone().isoformat(), escaped(first_line(error))
    entry = f"{when} {type(error).__name__}: {what}\n{frames}\n"
    try:
        log = log_folder(home) / "errors.log"
        keep_log_small(log)
        with log.open("a", encoding="utf-8") as file:
            file.write(entry)
    except OSError as no_log:
        click.echo(escaped_lines(entry), err=True)
        return f"the lines above (no log can be written in {home}: {no_log.strerror})"
    return log
