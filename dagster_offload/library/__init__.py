"""The library: files on disk, which of them are documents, their keys and digests.

Nothing here knows the ledger or reads what a file says; that is `extraction`."""
