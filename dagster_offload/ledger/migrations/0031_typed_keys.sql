-- A person may add a partition and launch a run over it: a scan between the two must not remove the partition.
create table typed_keys (                     -- partitions of Dagster without a document that are kept for a while
    key text primary key,
    first_seen timestamptz not null default clock_timestamp(),
    scans integer not null default 1          -- how many have seen it
);
