"""The web server of the UI: Dagster's own app behind a middleware that decides who may use it.

Only `server.py` imports Dagster, so `up` can import the rest.
"""
