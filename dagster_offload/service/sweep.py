"""What `up` has done by a process of its own before its daemon starts, because it needs Dagster: make the instance ready
and end the runs whose process is gone.

Prints the folder for DAGSTER_HOME as soon as it is ready, then a line for each run it ended.
"""

import sys

from dagster_offload.defs.events import EventReporter
from dagster_offload.defs.instance import open_instance, prepare_instance
from dagster_offload.defs.names import asset_keys
from dagster_offload.defs.runs import sweep
from dagster_offload.errors import OffloadError
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.settings import load_settings
from dagster_offload.stages.catalog import recipes


def main() -> None:
    settings = load_settings()
    with open_ledger(settings) as ledger:
        print(prepare_instance(settings, ledger.conninfo), flush=True)
        with open_instance(settings) as instance:
            reporter = EventReporter(instance, ledger, asset_keys(()), recipes(settings), settings.library)
            for line in sweep(reporter):
                print(line)


if __name__ == "__main__":
    try:
        main()
    except OffloadError as error:
        sys.exit(str(error))
