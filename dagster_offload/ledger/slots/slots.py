"""The rows of slots in the ledger: their settings, number of permits and prompt cache size."""

from collections.abc import Mapping

from dagster_offload.errors import SlotForgotten, SlotLost
from dagster_offload.ledger.core import next_steps
from dagster_offload.ledger.core.database import Cursor, notify
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.slots import dialects, holds
from dagster_offload.slot.config import DEEP, SlotConfig, Slots

# Notified with a slot's name when its breaker, a trial there or a stage that it holds changes.
BREAKER_MESSAGE = "breaker:"
# Notified with a slot's name when a permit there should be returned after the current call.
WANTED_MESSAGE = "wanted:"

# Use with every assignment of `reason`: the time of a reason is that of its first occurrence in a row.
SINCE_IT_CHANGED = (
    "reason_since = case when reason is distinct from %(reason)s then clock_timestamp() else reason_since end"
)

_SELECT = (
    "select s.name, s.url, s.model, s.permits, s.breaker, s.epoch, s.reason, s.reason_since, s.retry_at, "
    "s.refusal_wait_seconds, s.was_red_since_opening, s.fingerprint, s.is_auto, "
    "s.prompt_cache_size, s.prompt_cache_size_from, s.concurrency_found, current_schema() as schema, "
    "s.breaker <> 'closed' and coalesce(s.retry_at <= clock_timestamp(), s.breaker = 'open') as is_retry_due, "
    "exists (select 1 from workers w where w.worker_id = s.trial_worker and w.ended_at is null) as is_trial_running "
    "from slots s "
)


def get(cur: Cursor, name: str) -> SlotRow | None:
    """The slot of that name, or None if it is not in the ledger."""
    row = cur.execute(_SELECT + "where s.name = %s", [name]).fetchone()
    return None if row is None else SlotRow(**{**row, "breaker": BreakerState(row["breaker"])})


def list_slots(cur: Cursor) -> list[SlotRow]:
    """All slots in the ledger, by name."""
    cur.execute(_SELECT + "order by s.name")
    return [SlotRow(**{**row, "breaker": BreakerState(row["breaker"])}) for row in cur.fetchall()]


def has_answered(cur: Cursor, slot: SlotConfig) -> bool:
    """Whether the slot has answered at its URL, so that the URL is right. Only the last URL at which it did is known."""
    row = cur.execute("select answered_url from slots where name = %s", [slot.name]).fetchone()
    return row is not None and bool(row["answered_url"] == slot.shown_url)


def lock(cur: Cursor, name: str) -> None:
    """Lock the slot until the transaction ends. Its breaker, permits and trials change only under this lock, which must be
    taken before any other."""
    cur.execute("select 1 from slots where name = %s for update", [name])


def locked(cur: Cursor, name: str) -> SlotRow:
    """The slot's row, under its lock. Raises `SlotForgotten`."""
    lock(cur, name)
    row = get(cur, name)
    if row is None:
        raise forgotten(name)
    return row


def register(cur: Cursor, slot: SlotConfig, recipes: Mapping[str, str] | None = None) -> SlotRow:
    """Store a configured slot. Every command and process that writes to the ledger calls this first.

    The number of permits follows the setting whenever that changes; until then `set_permits` has precedence. Changed
    settings make a trial due at an open or misconfigured slot, and end the slot's holds. Changed `recipes` end the holds of
    their stages; only processes that make calls pass them. A changed URL clears the prompt cache size, because the server
    may be another.
    """
    url = slot.shown_url  # without the password: backups and other users of the database must not see it
    is_auto = slot.concurrency == "auto"
    n = {"permits": 1 if is_auto else slot.concurrency, "setting": 0 if is_auto else slot.concurrency, "auto": is_auto}
    # Every tick of the sensor comes here, and nearly always nothing has changed: then nothing is locked or written.
    cur.execute(
        "select from slots where name = %s and url = %s and fingerprint = %s and permits_from_settings = %s",
        [slot.name, url, slot.fingerprint, n["setting"]],
    )
    row = get(cur, slot.name) if cur.rowcount else None
    if row is None:
        _store(cur, slot, url, n)
        row = locked(cur, slot.name)
    if recipes is not None and holds.end_outdated(cur, slot.name, recipes):
        notify(cur, f"{BREAKER_MESSAGE}{slot.name}")
    return row


def _store(cur: Cursor, slot: SlotConfig, url: str, n: Mapping[str, object]) -> None:
    """Add the slot, or update what the settings changed."""
    cur.execute(
        "insert into slots (name, url, model, fingerprint, permits, permits_from_settings, is_auto) values "
        "(%(name)s, %(url)s, %(model)s, %(fingerprint)s, %(permits)s, %(setting)s, %(auto)s) on conflict (name) do nothing",
        {"name": slot.name, "url": url, "model": slot.model, "fingerprint": slot.fingerprint, **n},
    )
    locked(cur, slot.name)
    cur.execute(
        "update slots set permits = %(permits)s, permits_from_settings = %(setting)s, is_auto = %(auto)s, "
        "concurrency_memory = null where name = %(name)s and permits_from_settings <> %(setting)s",
        {"name": slot.name, **n},
    )
    cur.execute(
        "update slots set prompt_cache_size = null, prompt_cache_size_from = null, concurrency_memory = null, "
        "concurrency_found = null "
        "where name = %s and url <> %s",
        [slot.name, url],
    )
    cur.execute(
        "update slots set url = %(url)s, model = %(model)s, fingerprint = %(fingerprint)s where name = %(name)s "
        "and (fingerprint <> %(fingerprint)s or url <> %(url)s)",
        {"name": slot.name, "url": url, "model": slot.model, "fingerprint": slot.fingerprint},
    )
    if cur.rowcount:
        try_again(cur, slot.name, "the settings changed: a trial is due")


def try_again(cur: Cursor, name: str, reason: str) -> None:
    """Make a trial due now at an open or misconfigured slot, end the slot's holds, and forget how its server wants requests."""
    check_again(cur, name, reason)
    holds.end_all(cur, name)
    dialects.forget(cur, name)


def check_again(cur: Cursor, name: str, reason: str) -> None:
    """Make a trial due now at an open or misconfigured slot. Holds stay: a slot that answers trials holds stages, too."""
    lock(cur, name)
    cur.execute(
        "update slots set breaker = 'open', retry_at = clock_timestamp(), reason = %s, reason_since = clock_timestamp(), "
        "backoff_seconds = 15 where name = %s and breaker <> 'closed'",
        [reason, name],
    )
    notify(cur, f"{BREAKER_MESSAGE}{name}")


def make_trial_due(cur: Cursor, name: str) -> None:
    """Make a trial due now at a misconfigured slot, because the cause may be fixed."""
    cur.execute(
        "update slots set retry_at = clock_timestamp() where name = %s and breaker = 'misconfigured'",
        [name],
    )


def note_models(cur: Cursor, name: str, models: str) -> None:
    """Store the list of models of a misconfigured slot's server. A changed list makes a trial due now."""
    cur.execute(
        "update slots set models_listed = %(models)s, retry_at = case when models_listed <> %(models)s "
        "  then clock_timestamp() else retry_at end "
        "where name = %(name)s and breaker = 'misconfigured' and models_listed is distinct from %(models)s",
        {"models": models, "name": name},
    )


def set_permits(cur: Cursor, name: str, permits: int) -> None:
    """Set N for a slot by command. Holders above N return their permit after their current call. Raises
    `SlotForgotten`."""
    _set(cur, name, "permits = %s, is_auto = false, concurrency_memory = null", permits)


def set_auto(cur: Cursor, name: str) -> None:
    """Set automatic concurrency for a slot by command. It starts at 1. Raises `SlotForgotten`."""
    _set(cur, name, "permits = 1, is_auto = true, concurrency_memory = null")


def set_prompt_cache_size(cur: Cursor, name: str, prompt_cache_size: int | None) -> None:
    """Set a slot's prompt cache size (in documents) by command; None: use what the server reports. Raises
    `SlotForgotten`."""
    _set(
        cur,
        name,
        "prompt_cache_size = %s, prompt_cache_size_from = %s",
        prompt_cache_size,
        "person" if prompt_cache_size else None,
    )


def learn_prompt_cache_size(cur: Cursor, name: str, prompt_cache_size: int | None) -> SlotRow:
    """Store the prompt cache size the server reports (None: it reports nothing), unless it was set by command. Raises
    `SlotForgotten`."""
    row = locked(cur, name)
    if row.prompt_cache_size_from != "person" and row.prompt_cache_size != prompt_cache_size:
        _set(
            cur,
            name,
            "prompt_cache_size = %s, prompt_cache_size_from = %s",
            prompt_cache_size,
            "server" if prompt_cache_size else None,
        )
    return locked(cur, name)


def _set(cur: Cursor, name: str, assignments: str, *values: object) -> None:
    cur.execute(f"update slots set {assignments} where name = %s".encode(), [*values, name])
    if cur.rowcount == 0:
        raise forgotten(name)
    notify(cur, f"{WANTED_MESSAGE}{name}")


def forget(cur: Cursor, name: str) -> bool:
    """Remove a slot for good, by command; False if the ledger does not have it.

    Work that it deferred becomes due: another slot may do it now. The epochs of a later slot of that name start again.
    """
    cur.execute("delete from slots where name = %s", [name])
    was_known = cur.rowcount > 0
    for table in ("cuts", "pauses", "wakes"):
        cur.execute(f"delete from {table} where slot = %s".encode(), [name])
    cur.execute(
        "update work_items set not_before = null, deferred_epoch = 0 where state = 'deferred' and deferred_slot = %s",
        [name],
    )
    cur.execute(
        "update work_items set failed_alone = failed_alone - %(name)s::text "
        "where state = 'deferred' and failed_alone ? %(name)s::text",
        {"name": name},
    )
    if was_known:
        notify(cur, f"{BREAKER_MESSAGE}{name}")  # lanes at work there send nothing more
    return was_known


def forgotten(name: str) -> SlotForgotten:
    """The error for work in progress at a slot that was removed."""
    return SlotForgotten(
        f"slot {name} was forgotten while work was in progress: nothing more is sent to it, and its answers are kept. "
        "The next command that does work adds the slot again if it is still configured"
    )


def refuse_lost_slot(cur: Cursor, slots: Slots) -> None:
    """Raise `SlotLost` if the ledger has a deep slot and the settings have none."""
    if slots.deep is None and (known := get(cur, DEEP)) is not None:
        raise SlotLost(
            f"the deep slot {known.model} ({known.shown_url}) is no longer configured, so its work waits; nothing is sent to "
            "`primary`. Configure it again (slots.deep, or OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL) or, if it was removed "
            f"on purpose, {next_steps.forget_slot(known.schema, DEEP)}"
        )
