"""Events for Dagster: the outbox, and what was last reported about subjects that are not one document."""
