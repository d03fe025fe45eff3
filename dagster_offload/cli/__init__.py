"""`dagster-offload`: one file per command, loaded when it is used, so `status` imports no Dagster and `--help` is instant."""

import importlib
from typing import Any

import click

from dagster_offload import __version__

# Name and one line each, kept here so that the list of commands costs no import (a test compares it with the files).
COMMANDS = {
    "up": "Start everything and keep it running: UI, sensors, ledger.",
    "stop": "End the `up` of this home, its drains and its Postgres.",
    "demo": "Watch it work on sample documents, with a router that sleeps and wakes.",
    "scan": "Look at the library once and take the text out of what is new.",
    "drain": "Work off the backlog on the deep slot.",
    "status": "What is done, what waits, and for what.",
    "explain": "Everything that happened to one document.",
    "text": "Print the text that a scan would take out of files.",
    "retry": "Give failed or quarantined documents another three attempts.",
    "redo": "Ask again where prompt, options or model have changed.",
    "slot": "Show, set or forget a slot.",
    "doctor": "Try the deep slot step by step and name the setting to change.",
    "simulate-router": "Run a stand-in router that can sleep, warm up, be busy and cut.",
}


class LazyGroup(click.Group):
    """Commands are files of this folder, imported when they are called. Errors become one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dagster_offload.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--json" in args:  # before the command reads it, which a wrong option beside it prevents
            from dagster_offload.cli.exits import WANTS_JSON

            ctx.meta[WANTS_JSON] = True
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            from dagster_offload.cli.exits import WANTS_JSON, Refusal

            if ctx.meta.get(WANTS_JSON):
                raise Refusal(error.format_message(), error.exit_code) from error
            raise
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (KeyboardInterrupt, Exception) as error:
            from dagster_offload.cli.exits import is_broken_pipe, refusal

            if is_broken_pipe(error):
                raise  # click ends it without a word
            raise refusal(error) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="dagster-offload")
def main() -> None:
    """Turn a folder of documents into typed records with a big language model that is only sometimes there.

    \b
    dagster-offload demo                       see it work in a minute, nothing to set up
    dagster-offload up --library ~/Documents --deep-url http://macbook.local:8890 --deep-model qwen-macbook

    Settings are OFFLOAD_* variables, from the environment or a .env file here; options say the same.
    """


if __name__ == "__main__":
    main()
