"""The Dagster edge: assets, jobs, sensors and resources. It translates between Dagster and the core, which decides."""
