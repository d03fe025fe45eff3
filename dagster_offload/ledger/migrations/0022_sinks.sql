-- Sinks: where finished records are sent. Deliveries are durable, in order per document, and independent of each other's sink.

create table sinks (
    name text primary key,
    kind text not null,                       -- command, webhook, paperless
    is_configured boolean not null default true,  -- the pipeline file has it
    filled_to bigint,                         -- documents up to this id were looked at since it was added; null = all
    paused_at timestamptz,                    -- by a person
    not_before timestamptz,                   -- it cannot take records before this
    waits integer not null default 0,         -- such waits in a row
    refusals integer not null default 0,      -- refused records in a row
    reason text,                              -- why it waits
    reason_since timestamptz
);

create table record_changes (                 -- documents whose record may have changed; removed when it was looked at
    change_id bigint generated always as identity primary key,
    document_id bigint not null
);

create table deliveries (                     -- one version of a document's record on its way to one sink
    delivery_id bigint generated always as identity primary key,
    sink text not null references sinks on delete cascade,
    document_id bigint not null references documents on delete cascade,
    version text not null,                    -- hash of the record
    record jsonb,                             -- null once it was sent
    state text not null default 'pending' check (state in ('pending', 'sent', 'dead')),
    attempts integer not null default 0,      -- that the sink refused
    not_before timestamptz,
    reason text,                              -- of the last attempt that failed
    written jsonb,                            -- what the sink wrote elsewhere, so that it can tell its own values from a person's
    created_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp()
);
create index deliveries_untried on deliveries (sink, delivery_id) where state = 'pending' and not_before is null;
create index deliveries_again on deliveries (sink, not_before) where state = 'pending' and not_before is not null;
create index deliveries_open on deliveries (sink, state) where state <> 'sent';
create index deliveries_document on deliveries (document_id, sink, delivery_id);
alter table deliveries set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
