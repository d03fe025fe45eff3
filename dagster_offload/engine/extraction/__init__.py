"""The extraction of text for the ledger: `run` claims documents, `tasks` orders them, `pool` keeps the extractors busy.

How a file is read belongs to the package `dagster_offload.extraction`.
"""
