"""The ledger itself: connection, its outages, migrations, locks, row types, workers, and the log of transitions."""
