"""The embedded Postgres server of one home: binaries, data folder, accounts, sockets, start and stop."""
