"""How a command ends when it cannot do its work: one line, an exit code, and no traceback on the terminal."""

import json
import os
import select
import sys
import traceback
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import IO, Any

import click

from dagster_offload.errors import OffloadError, StageDeferred
from dagster_offload.text.plain_text import escaped, escaped_lines

WANTS_JSON = "dagster_offload.wants_json"  # key in click's `meta`, set by `--json`


class ExitCode(IntEnum):
    """What a script can tell from a command's end."""

    OK = 0  # nothing left that this call could do now
    OUR_FAULT = 1
    REFUSED = 2  # or wrong usage
    UNREADABLE_FILE = 65  # `text` only: at least one file cannot be read (EX_DATAERR)
    SLOT_UNAVAILABLE = 75  # due work left because the slot is away or wrong (EX_TEMPFAIL of sysexits.h)
    MISCONFIGURED = 78  # EX_CONFIG
    INTERRUPTED = 130  # Ctrl-C, as shells say it


class Refusal(click.ClickException):
    """A one-line end. With `--json`, standard output still gets exactly one object."""

    def __init__(self, message: str, exit_code: int = ExitCode.REFUSED) -> None:
        super().__init__(escaped(" ".join(message.split())))
        self.exit_code = exit_code  # type: ignore[misc] # click reads it from the instance
        ctx = click.get_current_context(silent=True)
        self._wants_json = bool(ctx and ctx.meta.get(WANTS_JSON))

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"dagster-offload: {self.message}", file=file, err=file is None)
        if self._wants_json:
            try:
                click.echo(json.dumps({"error": self.message, "exit_code": self.exit_code}, ensure_ascii=False))
            except BrokenPipeError:  # nobody reads it; left in the buffer it would be complained about at our exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refusal(error: BaseException) -> Refusal:
    """The end that fits `error`. What nobody expected is written to a log, and the line says where."""
    if isinstance(error, KeyboardInterrupt):
        return Refusal("interrupted; nothing is lost", ExitCode.INTERRUPTED)
    if isinstance(error, StageDeferred):
        return Refusal(str(error), ExitCode.SLOT_UNAVAILABLE)
    if isinstance(error, OffloadError):
        return Refusal(str(error), ExitCode.REFUSED)
    where = _write_down(error)
    what = f"{type(error).__name__}: {first_line(error)}"
    return Refusal(f"{what} - this is our fault; details in {where}", ExitCode.OUR_FAULT)


def is_broken_pipe(error: BaseException) -> bool:
    """Whether `error` says that the reader of our standard output is gone (`status | head -1`): nobody's fault.

    Asked of the pipe itself, since writing to a child or a server raises the same error.
    """
    if not isinstance(error, BrokenPipeError):
        return False
    try:
        output = select.poll()
        output.register(sys.stdout.fileno(), 0)  # a pipe without a reader is told of unasked
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0))
    except (OSError, ValueError):  # standard output is no file, or closed
        return False


def first_line(error: BaseException) -> str:
    """A message without its details, which can quote a document."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "no message"


def _write_down(error: BaseException) -> Path | str:
    from dagster_offload.service.home import log_folder
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
        with log.open("a", encoding="utf-8") as file:
            file.write(entry)
    except OSError as no_log:
        click.echo(escaped_lines(entry), err=True)
        return f"the lines above ({no_log.strerror}: no log can be written in {home})"
    return log
