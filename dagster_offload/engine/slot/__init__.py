"""Whether a slot can be used now: its circuit breaker, the check before a drain, and how its machine is woken.

Nothing here sends a document.
"""
