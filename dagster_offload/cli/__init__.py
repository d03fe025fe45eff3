"""`dagster-offload`: one file per command. A file is imported when its command runs, so `--help` is fast."""

import importlib
import io
import os
import sys
from typing import Any, TextIO

import click

from dagster_offload import __version__

# One line of help per command. The lines are kept here so that `--help` imports no command; a test compares them with the files.
COMMANDS = {
    "init": "Write a pipeline file with comments, to be edited.",
    "up": "Start everything and keep it running: UI, sensors, ledger.",
    "stop": "Stop the `up` of this home, its workers and its Postgres.",
    "service": "Start `up` at boot and keep it running, with systemd or launchd.",
    "demo": "Run a demonstration on sample documents, with a router that sleeps and wakes.",
    "preview": "Show what a scan would find and how long the deep slot would need.",
    "scan": "Scan the library once and extract the text of new documents.",
    "worker": "Take part in the extraction of texts from this host, with Celery.",
    "drain": "Process the backlog on the deep slot.",
    "status": "Show what is done, what is waiting, and why.",
    "explain": "Show everything that happened to one document.",
    "records": "Show the records, or write them as CSV, JSON Lines, Parquet, HTML or notes.",
    "correct": "Correct fields of a record; a redo and a scan keep the correction.",
    "stage": "Try a stage on files, on a sample, or against expected answers.",
    "sink": "Show, test, pause and serve the sinks to which records are sent.",
    "notify": "Show and test the channels by which people are notified.",
    "psql": "Open a SQL shell on the ledger.",
    "text": "Print the text that a scan would extract from files.",
    "retry": "Give failed or quarantined documents three more attempts.",
    "redo": "Redo documents that are outdated or that OCR can now read.",
    "config": "Show, check and change the settings of the pipeline file.",
    "backup": "Write the ledger to one file while everything runs.",
    "restore": "Put a backup into a new or empty home, or into your own Postgres.",
    "move": "Move the ledger from the embedded Postgres to your own, and back.",
    "gc": "Remove documents that have been gone for long, and unused results.",
    "pause": "Send nothing to a slot until a time, or until `resume`.",
    "resume": "Use a paused slot again.",
    "slot": "Show, change or forget a slot.",
    "password": "Write the password file of the UI.",
    "doctor": "Test the deep slot step by step and name the setting to change.",
    "completion": "Let the shell complete commands, documents and stages with the Tab key.",
    "simulate-router": "Run a stand-in router that can sleep, warm up, be busy and cut answers off.",
}


QUIET = "dagster_offload.quiet"  # key in click's `meta`


def with_verbosity(command: click.Command) -> click.Command:
    """The command with the options --quiet and --verbose. A command that passes options on to a program has its own."""
    passes_on = command.ignore_unknown_options or isinstance(command, click.Group)
    if not passes_on and not any(param.name == "quiet" for param in command.params):
        command.params += [
            click.Option(
                ["--quiet", "-q"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_set_quiet,
                help="Print results and errors only: no progress, no notes.",
            ),
            click.Option(
                ["--verbose", "-v"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_set_verbose,
                help="Also print what happens inside, on standard error.",
            ),
        ]
    return command


def _set_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[QUIET] = value
    if value:
        from dagster_offload.service.driver_log import without_start_lines

        ctx.with_resource(without_start_lines())


def _set_verbose(_ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        import logging

        logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
        logging.getLogger("dagster_offload").setLevel(logging.DEBUG)


class HintingGroup(click.Group):
    """A group whose error about a mistyped command names the nearest ones."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        return None if found is None else with_verbosity(found)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        typed = args[0]
        if not typed.startswith("-") and typed not in (names := self.list_commands(ctx)):
            import difflib

            near = difflib.get_close_matches(typed.lower(), names, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(names)}"
            ctx.fail(f"there is no command {typed!r}: {hint}")
        return super().resolve_command(ctx, args)


class LazyGroup(HintingGroup):
    """A group that imports a command's file when the command is called. Errors become one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dagster_offload.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return with_verbosity(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--json" in args:  # read here because a wrong option stops the parser before it reaches --json
            from dagster_offload.cli.exits import WANTS_JSON

            ctx.meta[WANTS_JSON] = True
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        from dagster_offload.service.driver_log import leave_out_driver_warnings, leave_out_starts_under_up

        _adapt_to_terminal(ctx)
        leave_out_driver_warnings()
        leave_out_starts_under_up()
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:  # a group without a command: the message is its help
            raise
        except click.UsageError as error:
            from dagster_offload.cli.exits import WANTS_JSON, Refusal
            from dagster_offload.text.plain_text import escaped_lines

            message = error.format_message()
            if ctx.meta.get(WANTS_JSON):
                raise Refusal(message, error.exit_code) from error
            # It may quote a file's name that the shell has inserted for `*`.
            raise click.UsageError(escaped_lines(message), error.ctx) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (KeyboardInterrupt, Exception) as error:
            from dagster_offload.cli.exits import is_broken_pipe, refusal

            if is_broken_pipe(error):
                raise  # click exits without a message
            raise refusal(error) from error


def _adapt_to_terminal(ctx: click.Context) -> None:
    """Print what the terminal cannot encode as escapes, and no colours if NO_COLOR is set (no-color.org).

    A stream that the caller has closed (`>&-`) becomes the null device, before another file gets its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for the life of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not is_utf8(stream):
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def is_utf8(stream: TextIO) -> bool:
    """Whether every character can be written to this stream."""
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="dagster-offload")
def main() -> None:
    """Turn a folder of documents into typed records with a large language model that is only sometimes available.

    \b
    dagster-offload demo                       see it work in a minute; no setup needed
    dagster-offload up --library ~/Documents --deep-url http://macbook.local:8890 --deep-model qwen-macbook

    Settings come from the pipeline file offload.yaml (in the current folder or in the home). OFFLOAD_* variables override
    it, from the environment or from a .env file in the current folder. Command options override both.
    """


if __name__ == "__main__":
    main()
