"""`python -m dagster_offload.cli`: the same as `dagster-offload`, for the processes `up` starts."""

from dagster_offload.cli import main

main(prog_name="dagster-offload")
