"""The code server's main module: Dagster's own, with runs whose processes begin where its imports end (`twin.py`).

`python -m dagster_offload.service.code_server` takes the arguments of the command `dagster`.
"""

import gc
import sys
from pathlib import Path

# All that is imported stays: looking for garbage in it is a seventh of the time, now and in each collection to come.
gc.disable()

import dagster_postgres  # noqa: E402, F401 - the storages of every run
from dagster._cli import main  # noqa: E402 - the command `dagster`

from dagster_offload.definitions import defs  # noqa: E402
from dagster_offload.service.prefork import start_prefork_server  # noqa: E402

gc.freeze()
gc.enable()


def serve() -> None:
    repository = defs.get_repository_def()
    for name in repository.job_names:
        repository.get_job(name)  # kept by the repository, so no run has to make it
    start_prefork_server(Path(sys.argv[sys.argv.index("--socket") + 1]).with_name("runs.sock"))
    sys.argv[0] = "dagster"
    sys.exit(main())  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    serve()
