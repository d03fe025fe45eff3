"""The Celery application of a worker: `dagster-offload worker` starts Celery with it. The import reads the settings."""

from dagster_celery.executor import CeleryExecutor
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task, create_task

from dagster_offload.defs.execution.celery import celery_options
from dagster_offload.settings import load_settings

app = make_app(CeleryExecutor.for_cli(**celery_options(load_settings())).app_args())

# The tasks of `dagster_celery.app`.
execute_plan = create_task(app)
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)
