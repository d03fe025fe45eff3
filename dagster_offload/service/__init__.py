"""Long-running processes: the supervisor of `up`, its children, ports, restarts of the embedded Postgres, and the wait
for the user's own.

No code here decides about documents or slots."""
