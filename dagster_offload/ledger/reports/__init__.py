"""Read-only queries for people: status, estimates, usage."""
