"""Dagster partitions: their keys, and the events of those that hold several documents."""
