"""Options that several commands share. An option for a setting is written to the environment, so that the processes a
command starts (code server, runs) use the same settings."""

import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dagster_offload.cli.exits import WANTS_JSON
from dagster_offload.cli.typed import note_option, note_typed, variable_of

if TYPE_CHECKING:
    from dagster_offload.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def _remember_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.meta[WANTS_JSON] = value
    return value


def _to_environment(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    note_option(ctx, param)
    if value is not None:
        _set(ctx, param, value)


def _url_to_environment(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Refuse a URL with a user name or password. The message does not repeat it."""
    if value is not None and "@" in value:
        variable = variable_of(param)
        key_file = variable.removesuffix("_URL") + "_API_KEY_FILE"
        raise click.BadParameter(
            "the URL must not contain a user name or password, because every user of this machine can read the options "
            f"of a command. Set {variable} in the environment or in .env, or put a bearer token into a file and set "
            f"{key_file}",
            ctx,
            param,
        )
    _to_environment(ctx, param, value)


def _path_to_environment(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    note_option(ctx, param)
    if value is not None:
        _set(ctx, param, os.path.abspath(value.expanduser()))


def _set(ctx: click.Context, param: click.Parameter, value: str) -> None:
    os.environ[variable_of(param)] = value
    note_typed(ctx, param, value)


def json_option(command: F) -> F:
    """`--json`: standard output is exactly one JSON object."""
    return click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=_remember_json, help="Print one JSON object."
    )(command)


class TypedPath(click.Path):
    """A path that a person typed. An empty one is refused: `"$UNSET"` of a shell does not mean the current folder."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, **checks)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        return super().convert(self._not_empty(value, param, ctx), param, ctx)

    def _not_empty(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | os.PathLike[str]:
        if not os.fspath(value):
            self.fail("the path is empty; in a script, its variable may not be set", param, ctx)
        return value


def home_option(command: F) -> F:
    """`--home` and `--config`: set OFFLOAD_HOME and OFFLOAD_CONFIG."""
    home = click.option(
        "--home",
        type=TypedPath(),
        expose_value=False,
        callback=_path_to_environment,
        help="Folder of the ledger, Dagster's state and the logs (OFFLOAD_HOME).",
    )
    config = click.option(
        "--config",
        metavar="FILE",
        type=TypedPath(),
        expose_value=False,
        callback=_path_to_environment,
        help="The pipeline file. Default: ./offload.yaml, or the one in the home (OFFLOAD_CONFIG).",
    )
    return home(config(command))


class _LibraryPath(TypedPath):
    """A path that is not looked at: click would wait for a drive that hangs."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return Path(self._not_empty(value, param, ctx))


def library_option(command: F) -> F:
    """`--library`: sets OFFLOAD_LIBRARY."""
    return click.option(
        "--library",
        type=_LibraryPath(),
        expose_value=False,
        callback=_path_to_environment,
        help="Folder of documents (OFFLOAD_LIBRARY).",
    )(command)


def deep_options(command: F) -> F:
    """`--deep-url` and `--deep-model`: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL."""
    url = click.option(
        "--deep-url",
        metavar="URL",
        expose_value=False,
        callback=_url_to_environment,
        help="URL of the router in front of the deep slot, with or without /v1 (OFFLOAD_DEEP_URL).",
    )
    model = click.option(
        "--deep-model",
        metavar="ALIAS",
        expose_value=False,
        callback=_to_environment,
        help="Model alias to request (OFFLOAD_DEEP_MODEL).",
    )
    return url(model(command))


def ui_options(command: F) -> F:
    """`--token` and `--behind-proxy`: set OFFLOAD_UI_TOKEN and OFFLOAD_UI_PROXY."""
    token = click.option(
        "--token",
        "ui_token",
        flag_value="on",
        default=None,
        expose_value=False,
        callback=_to_environment,
        help="The UI opens only with the token in the address that `up` prints (OFFLOAD_UI_TOKEN).",
    )
    proxy = click.option(
        "--behind-proxy",
        "ui_proxy",
        metavar="URL",
        expose_value=False,
        callback=_to_environment,
        help="Address of the UI at a reverse proxy that authenticates its users (OFFLOAD_UI_PROXY).",
    )
    return token(proxy(command))


def document_key(library: Path | None, typed: str) -> str:
    """The key of the document that `typed` names. `typed` is a key, or a path on this machine.

    A name that cannot be a key is returned escaped, as the ledger stores it.
    """
    from dagster_offload.library.files import cannot_be_shown, printable

    raw = typed.removeprefix("./") if library is None else _below(library, typed)
    return printable(raw) if cannot_be_shown(raw) else unicodedata.normalize("NFC", raw)


def stage_names(settings: "Settings", typed: Sequence[str]) -> list[str]:
    """These stages, checked. Raises `click.BadParameter` for a name that is not a stage."""
    from dagster_offload.stages.catalog import stage_graph
    from dagster_offload.text.suggestions import suggestion

    known = stage_graph(settings).names
    for name in typed:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(known)}{suggestion(name, known)}", param_hint="'--stage'"
            )
    return list(dict.fromkeys(typed))


def slot_names(settings: "Settings", typed: str | None) -> tuple[str, ...]:
    """The slot of that name, or every slot if none is typed. Raises `click.BadParameter` for a name that is not a slot."""
    from dagster_offload.slot.config import BUILT_IN_SLOTS

    known = (*BUILT_IN_SLOTS, *settings.slots_section.further)
    if typed is not None and typed not in known:
        raise click.BadParameter(f"{typed!r} is not one of {', '.join(known)}", param_hint="SLOT")
    return known if typed is None else (typed,)


def no_such_document(key: str, unusable: Mapping[str, str]) -> str:
    """The text for a key that is not in the ledger, with a hint. `unusable` maps names that cannot be keys to the reason."""
    why = (
        f"its name cannot be a key: {unusable[key]}"
        if key in unusable
        else "is it in the library, and has it been scanned?"
    )
    return f"{key} ({why})"


def _below(library: Path, typed: str) -> str:
    """`typed` relative to the library if it is a path inside it, else `typed` unchanged: it may be a key."""
    path = os.path.expanduser(typed)
    if not os.path.isabs(path):
        is_plain = os.path.normpath(typed) == typed  # ./ or ../ means a path
        if (is_plain and os.path.lexists(library / typed)) or not os.path.lexists(path):
            return typed.removeprefix("./")
    path = os.path.abspath(path)
    if Path(path).is_relative_to(library):
        return Path(path).relative_to(library).as_posix()
    # Only links of the folder are resolved, because the document may be a link itself.
    folder, root = os.path.realpath(os.path.dirname(path)), os.path.realpath(library)
    real = Path(folder, os.path.basename(path))
    return real.relative_to(root).as_posix() if real.is_relative_to(root) else typed
