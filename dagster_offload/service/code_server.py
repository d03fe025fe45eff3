"""The code server: Dagster's own server. Runs and the other processes of `up` are forked after its imports (`prefork.py`).

`python -m dagster_offload.service.code_server` takes the arguments of the command `dagster`.
"""

import gc
import sys
from multiprocessing import process
from pathlib import Path

# Imported modules are never garbage. Scanning them takes a seventh of the start, and time in each later collection.
gc.disable()

from dagster._cli import main  # noqa: E402 - the command `dagster`
from dagster._grpc.server import DagsterApiServer  # noqa: E402

from dagster_offload.definitions import defs  # noqa: E402
from dagster_offload.defs import pooled_storage  # noqa: E402, F401 - every run imports these storages
from dagster_offload.errors import SettingsError  # noqa: E402
from dagster_offload.service.driver_log import leave_out_driver_warnings, leave_out_starts_under_up  # noqa: E402
from dagster_offload.service.prefork import runs_socket, start_prefork_server  # noqa: E402
from dagster_offload.settings import load_settings  # noqa: E402


def serve() -> None:
    """Serve the definitions until the process is stopped. Ends in `SystemExit`."""
    DagsterApiServer.cleanup = _leave_runs  # type: ignore[method-assign, assignment]
    leave_out_driver_warnings()
    leave_out_starts_under_up()
    repository = defs.get_repository_def()
    for name in repository.job_names:
        repository.get_job(name)  # the repository caches the job, so no run builds it again
    is_forking = is_prefork_on()
    if is_forking:
        # The daemon shares the memory of this. The 20 MB of `dagster_webserver` are the webserver's: it runs only while a
        # page is open, and the others would keep them for years.
        import dagster._daemon.cli  # noqa: F401
    gc.freeze()
    gc.enable()
    if is_forking:
        start_prefork_server(runs_socket(Path(sys.argv[sys.argv.index("--socket") + 1])))
    sys.argv[0] = "dagster"
    try:
        sys.exit(main())  # type: ignore[no-untyped-call]
    finally:
        process._children.clear()  # type: ignore[attr-defined]  # or Python would wait for the runs at its end


def _leave_runs(server: DagsterApiServer) -> None:
    """End at SIGTERM when the calls that are open have ended. The runs that this server started live on.

    Dagster's own code waits for them, and fails each run that is to start meanwhile. One that finds no server goes back into
    the queue. The contract test is tests/service/test_code_server.py.
    """
    server._server_termination_event.set()


def is_prefork_on() -> bool:
    """Whether `OFFLOAD_PREFORK` allows a prefork server. False if the settings are wrong: the log gets the reason."""
    try:
        return load_settings().prefork == "auto"
    except SettingsError as error:
        print(
            f"Run processes start without the prefork server, because the settings are wrong: {error}", file=sys.stderr
        )
        return False


if __name__ == "__main__":
    serve()
