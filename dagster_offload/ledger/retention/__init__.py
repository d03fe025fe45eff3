"""What is removed after a time: history, and the results of documents that are gone. Backups are in `ledger/archive`."""
