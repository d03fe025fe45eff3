"""One step of `doctor`: what was found, and the change to make."""

from collections.abc import Sequence
from dataclasses import dataclass

HELD = "held"  # the check of a stage that the slot holds


@dataclass(frozen=True)
class Check:
    """One step. `advice` names the change to make, if this step knows one. `is_setting`: waiting does not help.

    `is_about_slot`: false for a step about this machine or the ledger, which the exit code does not depend on, unless
    it `prevents_calls`.
    """

    name: str
    ok: bool
    found: str
    advice: str | None = None
    is_setting: bool = False
    is_about_slot: bool = True
    prevents_calls: bool = False


def advice_of(checks: Sequence[Check]) -> str | None:
    """The change to make: for a setting that is certainly wrong, else for the slot, else for what is around it, else a proposal.

    Of several failed steps the last counts. What is around the slot comes later: its documents wait until the slot works.
    """
    failed = [check for check in checks if not check.ok]
    settings = [check for check in failed if check.is_setting]
    of_slot = [check for check in failed if check.is_about_slot]
    best = settings[:1] or of_slot[-1:] or failed[-1:] or [check for check in checks if check.advice]
    return best[0].advice if best else None


def other_advice(checks: Sequence[Check]) -> list[tuple[str, str]]:
    """What else to change around the slot, beside `advice_of`: the name of each check, and its advice."""
    chosen = advice_of(checks)
    found = [(check.name, check.advice) for check in checks if check.advice and not check.is_about_slot]
    return [(name, advice) for name, advice in found if advice != chosen]
