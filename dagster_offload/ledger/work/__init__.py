"""Documents and work items in the ledger: claim, finish, defer, fail, redo."""
