"""How runs execute: in the process of the code server, or asleep while the slot is unavailable."""
