-- The first tables: documents, work items, results, workers, slots, permits, calls, transitions, outbox.
-- Times are the database's clock only. The search path is the ledger's schema.

create table documents (
    document_id bigint generated always as identity primary key,
    key text not null unique,                 -- NFC-normalised relative POSIX path: the Dagster partition
    is_present boolean not null default true, -- false = the file is gone (its results are kept)
    digest text,                              -- SHA-256 of the bytes; null = could not be read yet
    size bigint not null,
    mtime_ns bigint not null,
    ctime_ns bigint not null,
    inode numeric(20) not null,
    digested_at timestamptz,                  -- a moment before the stat above was taken
    unreadable text,                          -- why the file could not be read, null = it could
    priority integer not null default 0,      -- higher goes first
    first_seen_at timestamptz not null default clock_timestamp()
);

create table unusable_names (                 -- files whose names cannot be keys; no documents
    name text primary key,                    -- escaped, so that it can be printed
    reason text not null,
    seen_at timestamptz not null default clock_timestamp()
);

create table workers (
    worker_id integer generated always as identity primary key,
    kind text not null,                       -- drain, run, scan, sensor, doctor
    host text not null,
    boot_id text not null,
    pid integer not null,
    run_id text,                              -- the Dagster run it works for
    stages text[] not null default '{}',
    started_at timestamptz not null default clock_timestamp(),
    heartbeat_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,                     -- said goodbye, or was found dead
    was_reclaimed boolean not null default false
);
create index workers_alive on workers (kind) where ended_at is null;

create table results (
    result_id bigint generated always as identity primary key,
    stage text not null,
    input_digest text not null,
    recipe text not null,
    outcome text not null check (outcome in ('ok', 'empty', 'no_text', 'needs_ocr')),
    text text,                                -- extract only
    value jsonb,                              -- LLM stages: the record; extract: what the extractor told about the file
    output_digest text not null,              -- the data version: extract: SHA-256 of the text, else of the record
    slot text,
    served_model text,
    model_evidence text,
    tokens_in integer,
    tokens_out integer,
    tokens_cached integer,
    seconds double precision,
    first_document text not null,             -- the document it was made for (others may reuse it)
    created_at timestamptz not null default clock_timestamp(),
    superseded_at timestamptz                 -- set when a redo replaced it
);
create unique index results_one_current on results (stage, input_digest, recipe) where superseded_at is null;

create table work_items (
    item_id bigint generated always as identity primary key,
    document_id bigint not null references documents,
    stage text not null,
    state text not null default 'pending'
        check (state in ('pending', 'claimed', 'deferred', 'done', 'failed', 'quarantined', 'gone')),
    input_digest text,                        -- null while the file could not be read
    recipe text,                              -- of the claim or the result; null before the first claim
    outcome text,
    result_id bigint references results,      -- the last result, kept through redo and gone
    attempts integer not null default 0,
    deferrals integer not null default 0,
    reclaims integer not null default 0,
    lone_deaths integer not null default 0,   -- workers that died while this document ran alone
    must_run_alone boolean not null default false,
    is_redo boolean not null default false,   -- the next result replaces the current one of the same key
    reason text,                              -- why it is where it is, in words
    not_before timestamptz,
    deferred_slot text,
    deferred_epoch bigint,
    worker_id integer references workers,
    token bigint,                             -- fencing token of the claim
    claimed_at timestamptz,
    claimed_alone boolean not null default false,
    priority integer not null default 0,
    changed_at timestamptz not null default clock_timestamp(),
    unique (document_id, stage)
);
create index work_items_waiting on work_items (must_run_alone, priority desc, document_id, stage)
    where state in ('pending', 'deferred');
create index work_items_claimed on work_items (worker_id) where state = 'claimed';
create index work_items_claimed_input on work_items (stage, input_digest) where state = 'claimed';
create index work_items_state on work_items (stage, state);

create sequence claim_tokens as bigint;

create table slots (
    name text primary key,
    url text not null,
    model text not null,
    fingerprint text not null,                -- of the settings that could mend a misconfiguration
    permits integer not null,                 -- N
    permits_from_settings integer not null,   -- the setting when it last changed; `slot set` wins until then
    breaker text not null default 'closed' check (breaker in ('closed', 'open', 'misconfigured')),
    epoch bigint not null default 1,          -- rises at each closing
    reason text,
    opened_at timestamptz,
    retry_at timestamptz,                     -- the breaker's own next look
    backoff_seconds double precision not null default 15,
    refusal_wait_seconds double precision,    -- Retry-After of the last refusal; null = it named none
    was_red_since_opening boolean not null default false,
    trial_worker integer references workers,
    busy_in_a_row integer not null default 0,  -- 429s without a success between
    fault_code text,                          -- of the documents in fault_items
    fault_items bigint[] not null default '{}', -- work items that ended in the same fault with no success between
    registered_at timestamptz not null default clock_timestamp()
);

create table permits (
    permit_id bigint generated always as identity primary key,
    slot text not null references slots on delete cascade,
    worker_id integer not null references workers,
    is_exclusive boolean not null default false, -- a document that must run alone
    taken_at timestamptz not null default clock_timestamp()
);
create index permits_slot on permits (slot);

create table permit_waiters (
    slot text not null references slots on delete cascade,
    worker_id integer not null references workers,
    is_person boolean not null,
    since timestamptz not null default clock_timestamp(),
    primary key (slot, worker_id)
);

create table cuts (                           -- calls that were cut, for finding poison documents
    cut_id bigint generated always as identity primary key,
    slot text not null,
    epoch bigint not null,
    item_id bigint not null references work_items on delete cascade,
    at timestamptz not null default clock_timestamp(),
    is_suspicion boolean not null default false -- the only call cut in its epoch, and the trial right after was answered
);
create index cuts_item on cuts (item_id);
create index cuts_epoch on cuts (slot, epoch);

create table calls (
    call_id bigint generated always as identity primary key,
    item_id bigint,                           -- null = a trial
    document_id bigint,
    stage text,
    worker_id integer,
    slot text not null,
    epoch bigint not null,
    asked_model text not null,
    served_model text,
    model_evidence text,
    tokens_in integer,
    tokens_out integer,
    tokens_cached integer,
    seconds double precision not null,
    outcome text not null,                    -- ok, or why not: a slot's or a document's fault in one word
    ended_at timestamptz not null default clock_timestamp()
);
create index calls_item on calls (item_id);
create index calls_ended on calls (ended_at);

create table transitions (
    transition_id bigint generated always as identity primary key,
    document_id bigint not null,
    stage text not null,
    from_state text,
    to_state text not null,
    worker_id integer,
    reason text,
    at timestamptz not null default clock_timestamp()
);
create index transitions_document on transitions (document_id);

create table outbox (                         -- materializations not yet told to Dagster
    event_id bigint generated always as identity primary key,
    result_id bigint not null references results,
    document_id bigint not null references documents,
    stage text not null,
    run_id text,                              -- the run it is recorded under; null = none
    reused_from text,                         -- the document whose result this is, where no call was made
    attempts integer not null default 0,
    deferrals integer not null default 0,
    created_at timestamptz not null default clock_timestamp(),
    sending_since timestamptz,                -- set before it is stored: after a crash it may or may not be in Dagster
    told_at timestamptz
);
create index outbox_pending on outbox (event_id) where told_at is null;
create index outbox_run on outbox (run_id, result_id, document_id);

create table scans (
    scan_id bigint generated always as identity primary key,
    started_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    found integer,
    added integer,
    changed integer,
    vanished integer,
    returned integer
);

create view records as
select
    d.key as document,
    c.value ->> 'category' as category,
    (c.value ->> 'confidence')::double precision as confidence,
    coalesce(s.value ->> 'language', c.value ->> 'language') as language,
    s.value ->> 'title' as title,
    s.value ->> 'summary' as summary,
    s.value -> 'key_points' as key_points,
    x.text as text,
    x.outcome as outcome,
    s.served_model as served_model,
    greatest(x.created_at, c.created_at, s.created_at) as updated_at
from documents d
left join work_items xi on xi.document_id = d.document_id and xi.stage = 'extract'
left join results x on x.result_id = xi.result_id
left join work_items ci on ci.document_id = d.document_id and ci.stage = 'classify'
left join results c on c.result_id = ci.result_id
left join work_items si on si.document_id = d.document_id and si.stage = 'summarize'
left join results s on s.result_id = si.result_id
where d.is_present;
