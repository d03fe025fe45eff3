"""Partitions of several documents: which document belongs to which, and what Dagster must be shown of them."""
