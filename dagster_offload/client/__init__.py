"""All HTTP to a slot: completions, health probes, the one-token trial.

The engine decides what caused an error, and the stages decide whether an answer is usable.
"""

from dagster_offload.client.ai_client import AIClient, call_deep_or_defer

__all__ = ["AIClient", "call_deep_or_defer"]
