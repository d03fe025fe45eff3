"""The durable record of every work item, in Postgres. This package holds almost all SQL of the project.

Functions take a cursor and are one step of a transaction. `Ledger.run` supplies the cursor: `ledger.run(claims.release, ...)`.
The search path resolves table names, so several ledgers can share a database under different schemas.
The numbered files of `migrations` create tables and indexes; each is applied once. Functions, triggers and views are in
`sql`, whose files are applied again whenever they change: edit them in place. A change that `create or replace` cannot make
(a new signature, a dropped column of a view) needs a `drop` in a numbered file. The stages are data: see `core/stages.py`."""
