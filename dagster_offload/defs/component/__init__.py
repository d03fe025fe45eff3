"""The component `dagster_offload.OffloadPipeline`: a library in anybody's Dagster project, as one `defs.yaml`."""
