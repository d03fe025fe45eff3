"""Options that several commands share. An option that stands for a setting is put into the environment, so that the
processes a command starts (code server, runs) see the same settings as the command itself."""

import os
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from dagster_offload.cli.exits import WANTS_JSON

TYPED = "dagster_offload.typed"  # key in click's `meta`

F = TypeVar("F", bound=Callable[..., Any])


def _remember_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.meta[WANTS_JSON] = value
    return value


def _to_environment(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        _set(ctx, param, value)


def _url_to_environment(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Refuses a user name or password, without repeating it."""
    if value is not None and "@" in value:
        variable = f"OFFLOAD_{str(param.name).upper()}"
        key_file = variable.removesuffix("_URL") + "_API_KEY_FILE"
        raise click.BadParameter(
            "every user of this machine can read a command's options, so a URL with a user name or password in it is "
            f"refused here. Set {variable} in the environment or in .env, or put a bearer token into the file that "
            f"{key_file} names",
            ctx,
            param,
        )
    _to_environment(ctx, param, value)


def _path_to_environment(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        _set(ctx, param, os.path.abspath(value.expanduser()))


def _set(ctx: click.Context, param: click.Parameter, value: str) -> None:
    variable = f"OFFLOAD_{str(param.name).upper()}"
    os.environ[variable] = value
    ctx.meta.setdefault(TYPED, {})[variable] = value


def typed_settings() -> dict[str, str]:
    """The settings that were given as options of this command, by variable."""
    typed: dict[str, str] = click.get_current_context().meta.get(TYPED, {})
    return typed


def json_option(command: F) -> F:
    """`--json`: standard output is exactly one JSON object."""
    return click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=_remember_json, help="Print one JSON object."
    )(command)


def home_option(command: F) -> F:
    return click.option(
        "--home",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_path_to_environment,
        help="Where ledger, Dagster's state and logs live (OFFLOAD_HOME).",
    )(command)


def library_option(command: F) -> F:
    return click.option(
        "--library",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_path_to_environment,
        help="The folder of documents (OFFLOAD_LIBRARY).",
    )(command)


def deep_options(command: F) -> F:
    """`--deep-url` and `--deep-model`."""
    url = click.option(
        "--deep-url",
        metavar="URL",
        expose_value=False,
        callback=_url_to_environment,
        help="The router in front of the deep slot, with or without /v1 (OFFLOAD_DEEP_URL).",
    )
    model = click.option(
        "--deep-model",
        metavar="ALIAS",
        expose_value=False,
        callback=_to_environment,
        help="The model alias to ask it for (OFFLOAD_DEEP_MODEL).",
    )
    return url(model(command))


def document_key(library: Path | None, typed: str) -> str:
    """The key of a document as a person may name it: its key, or its path on this machine.

    A name that cannot be a key comes back as the ledger knows it, escaped.
    """
    from dagster_offload.library.files import cannot_be_shown, printable

    raw = typed.removeprefix("./") if library is None else _below(library, typed)
    return printable(raw) if cannot_be_shown(raw) else unicodedata.normalize("NFC", raw)


def no_such_document(key: str, unusable: Mapping[str, str]) -> str:
    """Words for a key that the ledger does not have, with what to look at; `unusable` = why a name cannot be one."""
    why = f"its name cannot be a key: {unusable[key]}" if key in unusable else "is it in the library, and scanned?"
    return f"{key} ({why})"


def _below(library: Path, typed: str) -> str:
    """`typed` relative to the library where it is a path that leads into it; else as it is, which may be a key."""
    path = os.path.expanduser(typed)
    if not os.path.isabs(path):
        is_plain = os.path.normpath(typed) == typed  # a person who writes ./ or ../ means a path
        if (is_plain and os.path.lexists(library / typed)) or not os.path.lexists(path):
            return typed.removeprefix("./")
    path = os.path.abspath(path)
    if Path(path).is_relative_to(library):
        return Path(path).relative_to(library).as_posix()
    # Only the folder's links are followed: a document may be a link itself.
    folder, root = os.path.realpath(os.path.dirname(path)), os.path.realpath(library)
    real = Path(folder, os.path.basename(path))
    return real.relative_to(root).as_posix() if real.is_relative_to(root) else typed
