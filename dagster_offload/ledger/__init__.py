"""The durable record of every work item, in Postgres. This package holds the only SQL of the project.

Functions take a cursor and are one step of a transaction; `Ledger.run` supplies it: `ledger.run(claims.take, ...)`.
Table names are resolved by the search path, so several ledgers can share a database under different schemas."""
