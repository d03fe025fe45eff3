"""What the lines of `up` about sinks read: at the same cost however many records were sent."""

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.reports import recipients


def test_the_records_of_a_sink_that_has_sent_all_are_not_read_again(ledger: Ledger) -> None:
    with ledger.transaction() as cur:
        cur.execute("set local session_replication_role = replica")  # the documents are not needed
        cur.execute("insert into sinks (name, kind) values ('busy', 'webhook'), ('done', 'webhook')")
        cur.execute(
            "insert into deliveries (sink, document_id, version, state) select s.name, n, 'v', "
            "  case when s.name = 'busy' and n % 2 = 0 then 'pending' else 'sent' end "
            "from generate_series(1, 10000) n, (values ('busy'), ('done')) as s (name)"
        )
        cur.execute("analyze deliveries")
        plan = cur.execute(f"explain {recipients._SINKS}".encode(), [recipients.MOST_DEAD_COUNTED]).fetchall()
        assert "Seq Scan on deliveries" not in "\n".join(row["QUERY PLAN"] for row in plan)
        assert recipients.sink_states(cur)["done"] == recipients.SinkState("done")


def test_a_sink_waits_only_while_it_has_a_record_to_send(ledger: Ledger) -> None:
    with ledger.transaction() as cur:
        cur.execute("set local session_replication_role = replica")
        cur.execute("insert into sinks (name, kind, reason) values ('hook', 'webhook', 'HTTP 503')")
        assert recipients.sink_states(cur)["hook"].reason is None
        cur.execute("insert into deliveries (sink, document_id, version) values ('hook', 1, 'v')")
        assert recipients.sink_states(cur)["hook"].reason == "HTTP 503"
        cur.execute("update deliveries set not_before = clock_timestamp()")
        assert recipients.sink_states(cur)["hook"].reason == "HTTP 503"
