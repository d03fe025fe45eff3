"""The library: which files on disk are documents, their keys and their digests.

This package does not use the ledger and does not read documents' text; `extraction` does that.
"""
