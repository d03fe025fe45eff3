"""`dagster-offload up`: run everything until a signal stops it. `service/processes.py` defines the processes."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.options import deep_options, home_option, library_option, ui_options
from dagster_offload.cli.typed import typed_settings

if TYPE_CHECKING:
    from rich.console import Console

    from dagster_offload.service.ui.access import Access
    from dagster_offload.settings import Loaded, Settings


@click.command("up")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the UI. Default: 3000, or the next free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the UI listens on.")
@ui_options
@library_option
@deep_options
@home_option
def command(*, port: int | None, host: str) -> None:
    """Start everything and keep it running: Postgres, Dagster's UI, the sensors that scan and drain.

    Stop it with Ctrl-C or `dagster-offload stop`. The next start continues where it stopped.

    \b
    dagster-offload up --library ~/Documents --deep-url http://macbook.local:8890 --deep-model qwen-macbook
    dagster-offload up                             goes on with the pipeline file that the first start wrote
    dagster-offload up --port 3100 --token
    """
    from dagster_offload.cli.console import progress_console
    from dagster_offload.errors import SettingsError, StoppedWaiting
    from dagster_offload.library.missing import is_no_folder
    from dagster_offload.service.pipeline import missing_library
    from dagster_offload.settings import read_settings

    loaded = read_settings()
    settings = loaded.settings
    if settings.library is None:
        raise SettingsError(
            "no library is configured: run dagster-offload up --library DIR, write a pipeline file with "
            "dagster-offload init, or set OFFLOAD_LIBRARY"
        )
    if "OFFLOAD_LIBRARY" in typed_settings() and is_no_folder(settings.library):
        raise missing_library(settings.library)  # typed just now; one from the file may be a folder that is not mounted
    settings.slots.require_keys()
    console = progress_console()
    try:
        _run(loaded, console, host, port)
    except StoppedWaiting as stopped:  # a requested stop, so the exit code is 0
        console.print(str(stopped))


def _run(loaded: "Loaded", console: "Console", host: str, port: int | None) -> None:
    """Run everything until a stop is requested. Raises `StoppedWaiting` if that is before the ledger was ready."""
    from dagster_offload.cli.console import style_of
    from dagster_offload.cli.preview import show_if_large
    from dagster_offload.service.event_lines import EventLines, printing
    from dagster_offload.service.home import hold_up_lock
    from dagster_offload.service.home_file import keep_in_home, refuse_second_file
    from dagster_offload.service.ports import listen_for_ui, port_of
    from dagster_offload.service.processes import running_services
    from dagster_offload.service.supervisor import StopRequest, stop_on_signals
    from dagster_offload.service.ui.access import decide_access

    settings, typed, stop = loaded.settings, typed_settings(), StopRequest()

    def say(line: str) -> None:
        console.print(f"{datetime.now().astimezone():%H:%M:%S}  {line}", style=style_of(line))

    def keep(before: "Loaded") -> "Loaded":
        return keep_in_home(before, typed, console.print)

    with ExitStack() as until_the_end:
        until_the_end.enter_context(stop_on_signals(stop))
        lock = until_the_end.enter_context(hold_up_lock(settings.home))
        refuse_second_file(loaded)
        access = decide_access(settings.ui, settings.home, host)  # before anything listens
        listener = until_the_end.enter_context(listen_for_ui(host, port))
        show_if_large(settings, console.print)
        console.print(f"Starting; the logs are in {settings.home / 'logs'}")
        with running_services(loaded, host, listener, lock, stop, say, keep=keep) as services:
            if not stop:
                _welcome(console, settings, access, host, port_of(listener))
            pipeline = services.pipeline
            event_lines = EventLines(
                services.ledger, pipeline.worker_id, say, channels=lambda: list(pipeline.settings.channels)
            )
            pipeline.on_notify(event_lines.notified)
            with printing(event_lines):
                services.watch(stop)
                console.print("Stopping ...")
    if event_lines.left is not None:
        console.print(event_lines.left)
    console.print("Stopped. Nothing is lost; `dagster-offload up` continues where it stopped.")


def addresses(settings: "Settings", access: "Access", host: str, port: int) -> dict[str, str]:
    """The addresses of the UI, without the token, each with a note on who uses it."""
    from dagster_offload.service.ports import address_of, network_address_of

    found = {address_of(host, port, access.prefix): ""}
    if (in_network := network_address_of(host, port, access.prefix)) is not None:
        found[in_network] = "from other machines"
    if settings.ui.proxy is not None:
        found[settings.ui.proxy + access.prefix] = "through the proxy"
    return found


def _ui_lines(access: "Access", host: str, shown: dict[str, str]) -> "Iterator[str]":
    """The addresses of the UI, and who can open it."""
    from dagster_offload.service.ui.access import is_loopback

    for address, note in shown.items():
        yield f"{address} ({note})" if note else address
    if is_loopback(host) and not access.needs_login:
        yield "Every user of this machine can open it (`up --token`: only you)."
    if not is_loopback(host) and access.peers is None:
        yield "Plain HTTP: the network can read along (docs/remote-ui.md)."


def _welcome(console: "Console", settings: "Settings", access: "Access", host: str, port: int) -> None:
    from rich.panel import Panel
    from rich.text import Text

    from dagster_offload.service.ui.access import token_address

    shown = addresses(settings, access, host, port)
    lines = Text.assemble(*_lines(settings, list(_ui_lines(access, host, shown))))
    console.print(Panel(lines, title="dagster-offload", expand=False))
    if access.token is not None and console.is_terminal:
        console.print("The UI asks for a token. These addresses have it:")
        for address in shown:
            console.print(f"  {token_address(address, access.token)}", soft_wrap=True)
    elif access.token is not None:  # the output may be a log
        console.print("The UI asks for a token. `dagster-offload status` prints its address with the token.")


def _lines(settings: "Settings", ui: list[str]) -> "Iterator[str | tuple[str, str]]":
    from dagster_offload.library.missing import why_missing

    def named(name: str, text: str) -> "Iterator[str | tuple[str, str]]":
        yield (f"{name:<9}", "bold")
        yield f"{text}\n"

    slots, indent = settings.slots, " " * 9
    yield from named("UI", f"\n{indent}".join(ui))
    yield from named("Library", str(settings.library))
    if settings.library is not None and why_missing(settings.library) is not None:
        yield (f"{indent}missing: nothing changes until it is back\n", "yellow")
    if slots.deep is not None:
        for slot in slots.of_drains:
            yield from named("Slot", f"{slot.model} at {slot.shown_url}")
        yield f"{indent}While {'it is' if not slots.further else 'all are'} unavailable, documents wait: none are lost,\n"
        yield f"{indent}and no smaller model answers. When {'it' if not slots.further else 'one'} is back,\n"
        yield f"{indent}the backlog is drained automatically, within seconds.\n"
    elif slots.primary is not None:
        yield from named("Slot", f"{slots.primary.model} at {slots.primary.shown_url} (no deep slot)")
    else:
        yield from named("Slot", "none: text is extracted, and documents wait for a model")
        yield f"{indent}--deep-url http://HOST:8890 --deep-model ALIAS\n"
    yield ("Stop     ", "bold")
    yield "Ctrl-C, or `dagster-offload stop`"
