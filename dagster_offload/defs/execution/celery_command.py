"""Celery's command line, for a worker: `python -m dagster_offload.defs.execution.celery_command worker ...`.

The same as `python -m celery`, which imports the application with the working folder at the front of the module path.
"""

from celery.__main__ import main

from dagster_offload.defs.execution.celery import import_nothing_from_the_working_folder

if __name__ == "__main__":
    import_nothing_from_the_working_folder()
    main()
