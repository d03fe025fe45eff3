"""The process of the UI: Dagster's web app behind our access control, on uvicorn.

`python -m dagster_offload.service.ui.server --workspace FILE --home HOME --ui JSON --host HOST --listener FD` serves on an
inherited socket that listens on HOST. JSON has the settings of the section `ui` that `up` started with: an edit of them is
in force at the next start of `up`. It does what the command `dagster-webserver` does, which offers no place for a
middleware. This is the only file that uses Dagster's web server; a contract test covers the internals it needs.

The process takes 60 MB, and most of the time no page is open. So it ends when it was unused for a while, and the supervisor
starts it again at the next connection.
"""

import argparse
import logging
import os
import socket
import sys
import threading
from pathlib import Path

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget, WorkspaceLoadTarget
from dagster._utils.log import configure_loggers
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__
from starlette.types import ASGIApp

from dagster_offload.errors import OffloadError
from dagster_offload.service.ui.access import Access, decide_access
from dagster_offload.service.ui.in_use import InUse, ServerWhileUsed
from dagster_offload.service.ui.middleware import AccessControl
from dagster_offload.settings.sections.ui import UISection

# The defaults of `dagster-webserver`.
STATEMENT_TIMEOUT_MS = 15_000
POOL_RECYCLE_SECONDS = 3600
MAX_POOL_OVERFLOW = 20
LIVE_DATA_POLL_RATE_MS = 2000

STOP_SECONDS = 2  # for open requests; the supervisor kills after 4 s
UNUSED_SECONDS = 300.0
CLOSE_SECONDS = 10.0  # for open connections after that; a client that hangs never closes its own


def build_app(process_context: WorkspaceProcessContext, access: Access) -> ASGIApp:
    """Dagster's app behind the access control."""
    app = create_app_from_workspace_process_context(process_context, access.prefix, LIVE_DATA_POLL_RATE_MS)
    return AccessControl(app, access)


def serving_context(instance: dg.DagsterInstance, target: WorkspaceLoadTarget) -> WorkspaceProcessContext:
    """Dagster's context for a long-running web server. Use it as a context manager."""
    instance.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_SECONDS, MAX_POOL_OVERFLOW)
    return WorkspaceProcessContext(instance, target, version=__version__)


def server_config(app: ASGIApp) -> uvicorn.Config:
    """The settings of uvicorn, which gets its socket when it runs.

    Requests are not logged, because an address can contain the token.
    """
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # any local process could name another peer in X-Forwarded-For
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def main() -> None:
    """Serve until the UI is unused or a signal stops the process. Ends in `SystemExit` if the settings are wrong."""
    logging.captureWarnings(True)
    try:
        _serve()
    except OffloadError as error:
        sys.exit(str(error))


def _serve() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--ui", type=UISection.model_validate_json, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--listener", type=int, required=True)
    given = parser.parse_args()
    access = decide_access(given.ui, given.home, given.host)
    configure_loggers(log_level="WARNING")
    with (
        dg.DagsterInstance.get() as instance,
        serving_context(instance, WorkspaceFileTarget([str(given.workspace)])) as context,
        socket.socket(fileno=given.listener) as listener,
    ):
        use = InUse(build_app(context, access), access.health_paths)
        ServerWhileUsed(server_config(use), use, UNUSED_SECONDS).run(sockets=[listener])
        _end_within(CLOSE_SECONDS)


def _end_within(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, [0])
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    main()
