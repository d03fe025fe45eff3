"""All HTTP to a slot: completions, health probes, the one-token trial.

Whose fault an error is, the engine decides; whether an answer is usable, the stages decide.
"""

from dagster_offload.client.ai_client import AIClient, call_deep_or_defer

__all__ = ["AIClient", "call_deep_or_defer"]
