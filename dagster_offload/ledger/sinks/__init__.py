"""Sinks in the ledger: their state, and the deliveries of records to them."""
