"""The Dagster edge: the only folder that imports dagster. It translates and shows; decisions are the core's."""
