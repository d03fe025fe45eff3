"""The Celery application of a worker: `dagster-offload worker` starts Celery with it. The import reads the settings."""

from dagster_celery.executor import CeleryExecutor
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task, create_task

from dagster_offload import timing
from dagster_offload.defs.execution.celery import celery_options
from dagster_offload.defs.execution.celery_hangup import stop_on_hangup
from dagster_offload.defs.pooled_storage import wait_for_postgres
from dagster_offload.settings import load_settings

_executor = CeleryExecutor.for_cli(**celery_options(load_settings()))  # type: ignore[no-untyped-call]
app = make_app(_executor.app_args())  # type: ignore[no-untyped-call]
stop_on_hangup(app)

wait_for_postgres(timing.current().cut_off)
# The tasks of `dagster_celery.app`.
execute_plan = create_task(app)  # type: ignore[no-untyped-call]
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)
