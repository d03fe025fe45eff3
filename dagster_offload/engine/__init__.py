"""The engine: claims work, sends it to a slot, and records the outcome. It decides whose fault an error is.

It uses `client`, `extraction` and `ledger`, and knows neither Dagster nor the command line."""
