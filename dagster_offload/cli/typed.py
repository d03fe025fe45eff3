"""The settings that were typed as options of this command. A message about one names the option, not the variable."""

import re

import click

_TYPED = "dagster_offload.typed"  # keys in click's `meta`, which all contexts of a command line share
_OPTIONS = "dagster_offload.options"


def variable_of(param: click.Parameter) -> str:
    """The environment variable that an option for a setting sets."""
    return f"OFFLOAD_{str(param.name).upper()}"


def note_option(ctx: click.Context, param: click.Parameter) -> None:
    """The command has this option for a setting."""
    ctx.meta.setdefault(_OPTIONS, {})[variable_of(param)] = param.opts[0]


def note_typed(ctx: click.Context, param: click.Parameter, value: str) -> None:
    """This option was typed with this value."""
    ctx.meta.setdefault(_TYPED, {})[variable_of(param)] = value


def typed_settings() -> dict[str, str]:
    """The settings given as options of this command, by environment variable."""
    typed: dict[str, str] = click.get_current_context().meta.get(_TYPED, {})
    return typed


def with_options(message: str, ctx: click.Context | None) -> str:
    """The message with options for variables, if it is about a setting that was typed as an option."""
    typed = {} if ctx is None else ctx.meta.get(_TYPED, {})
    if ctx is None or not any(_mention(variable).search(message) for variable in typed):
        return message
    for variable, option in ctx.meta[_OPTIONS].items():
        message = _mention(variable, option).sub(option, message)
    return message


def _mention(variable: str, option: str = "") -> re.Pattern[str]:
    """A variable in a message, also with its option behind it."""
    return re.compile(rf"(?<!\w){re.escape(variable)}(?!\w)(?: \({re.escape(option)}\))?")
