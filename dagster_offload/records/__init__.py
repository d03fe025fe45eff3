"""The records of a home's documents, for people and programs: read them, or write them in the formats people use.

    from dagster_offload import records

    for record in records.read(where=["category=invoice", "payment.amount>=100"]):
        print(record["document"], record["payment"]["payee"])

Nothing here changes work. What a record holds belongs in `stages`, and how it is stored in `ledger`.
"""

from dagster_offload.records.reading import Query, read

__all__ = ["Query", "read"]
