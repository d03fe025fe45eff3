"""Documents through a real instance: scan, drain, a person's run, and what Dagster shows of them."""
