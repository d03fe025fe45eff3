"""The durable record of every work item, in Postgres. This package holds the only SQL of the project.

Functions take a cursor and are one step of a transaction; `Ledger.run` supplies it: `ledger.run(claims.release, ...)`.
Table names are resolved by the search path, so several ledgers can share a database under different schemas.
Tables and indexes are made by the numbered files of `migrations`, each once. Functions, triggers and views are in `sql`,
whose files are applied again whenever they change: edit them in place. What `create or replace` cannot do (another
signature, a column of a view that goes) needs a `drop` in a numbered file. The stages are data: see `core/stages.py`."""
