-- Partitions of several documents. Unless the setting partition_by was changed, each document is a partition, and these
-- tables are empty.

-- Workers lock items before documents.
lock table work_items in access exclusive mode;

alter table documents add column partition text;  -- null = none yet, or each document is one
create index documents_partition on documents (partition, document_id) where partition is not null and is_present;

create table partition_rule (                 -- the rule in force; no row = each document is a partition
    is_only boolean primary key default true check (is_only),
    grouped_by text not null,                 -- document, folder, month or shard
    number integer,                           -- levels of the folder, or shards
    filled_to bigint,                         -- documents up to this id follow the rule; null = all of them
    -- Of `document`: the events of earlier results are in Dagster under the keys of documents.
    grouped_since timestamptz not null default clock_timestamp()
);

create table dagster_partitions (             -- the keys that Dagster has, if a rule groups documents
    key text primary key
);

create table partition_changes (              -- partitions in which a document was added, removed, done or restarted
    change_id bigint generated always as identity primary key,
    partition text not null,
    check_at timestamptz                      -- look at it again then, after it was withdrawn; null = at once
);

create table partition_reports (              -- stages that Dagster shows as materialized for a partition
    partition text not null,
    stage text not null,
    version text not null,                    -- a hash of the outputs of its documents; '' = about to be reported
    run_id text,                              -- of the last event
    primary key (partition, stage)
);

create index outbox_pending_document on outbox (document_id, result_id) where told_at is null;
