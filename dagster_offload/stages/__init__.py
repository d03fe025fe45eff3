"""What each stage asks, and what it accepts as an answer. Pure: no I/O, no ledger.

`graph` names the stages and their upstreams; `catalog` builds them from the settings."""
