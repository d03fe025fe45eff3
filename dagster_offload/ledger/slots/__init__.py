"""Slots in the ledger: settings, circuit breaker, permits, concurrency, and the features their servers support."""
