"""Confirmation of a command whose cost or effect is shown first."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dagster_offload.cli.exits import Refusal

F = TypeVar("F", bound=Callable[..., Any])


def yes_option(command: F) -> F:
    """`--yes`. With it, the caller skips `confirm`."""
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(command)


def confirm(question: str) -> None:
    """Ask a person, and end the command if the answer is no. Raises `Refusal` without a terminal."""
    if not sys.stdin.isatty():
        name = click.get_current_context().info_name
        raise Refusal(f"{name} asks for confirmation, and standard input is not a terminal: add --yes")
    click.confirm(question, abort=True)
