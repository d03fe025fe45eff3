"""Copies of a ledger: backups in one file, and moves from one Postgres to another. They hold data, no SQL and no code."""
