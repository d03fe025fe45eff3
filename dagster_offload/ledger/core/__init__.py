"""The ledger itself: connection, migrations, row types, workers, and the log of transitions."""
