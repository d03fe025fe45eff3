"""What `up` has done by a process of its own before its daemon starts, because it needs Dagster: make the instance ready
and end the runs whose process is gone. Prints one JSON object: `{"dagster_home": ..., "told": [...]}`.
"""

import json
import sys

from dagster_offload.defs.instance import dagster_home, open_instance
from dagster_offload.defs.runs import sweep
from dagster_offload.errors import OffloadError
from dagster_offload.opening import open_ledger
from dagster_offload.settings import load_settings


def main() -> None:
    settings = load_settings()
    with open_ledger(settings) as ledger, open_instance(settings) as instance:
        told = sweep(instance, ledger)
    json.dump({"dagster_home": str(dagster_home(settings)), "told": told}, sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    try:
        main()
    except OffloadError as error:
        sys.exit(str(error))
