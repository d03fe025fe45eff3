"""A client that knows what the ledger knows about each slot's server, and leaves there what it finds out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dagster_offload.client import AIClient
from dagster_offload.gate import AsyncLedger
from dagster_offload.ledger import dialects
from dagster_offload.slots import Slots


@asynccontextmanager
async def open_client(slots: Slots, ledger: AsyncLedger) -> AsyncIterator[AIClient]:
    """A client for the block. What it found out is written down where the block ends well."""
    configured = [slot for slot in (slots.deep, slots.primary) if slot is not None]
    known = {slot.name: await ledger.run(dialects.recall, slot) for slot in configured}
    async with AIClient(slots, known) as client:
        yield client
        for slot in configured:
            findings = client.dialects_of(slot).findings
            if findings != known[slot.name]:
                await ledger.run(dialects.remember, slot, findings)
