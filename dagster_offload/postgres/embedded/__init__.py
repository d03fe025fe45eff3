"""The embedded Postgres server of one home: its binaries, data folder, accounts, socket, start and stop."""
