"""Long-running processes: the supervisor of `up`, its children, ports, and restarts of the embedded Postgres.

No code here decides about documents or slots."""
