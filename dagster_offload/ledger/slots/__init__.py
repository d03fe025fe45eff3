"""Slots in the ledger: settings, circuit breaker, permits, concurrency, and what their servers were found to support."""
