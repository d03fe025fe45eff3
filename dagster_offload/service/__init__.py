"""Long-running processes: the supervisor behind `up`, its children, ports, and the upkeep of embedded Postgres.

Nothing here decides about documents or slots."""
