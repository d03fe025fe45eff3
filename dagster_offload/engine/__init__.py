"""The engine claims work, sends it to a slot, records the outcome, and decides whose fault an error is.

It uses `client`, `extraction` and `ledger`. It imports neither Dagster nor the command line.
"""
