-- What a person says about a field of a record. A correction belongs to the bytes of a file, as results do: a redo, a scan, a
-- renamed file and a copy keep it.

create table corrections (
    digest text not null,                     -- SHA-256 of the file
    stage text not null,
    field text not null,
    value jsonb not null,                     -- JSON null: the document states no value
    note text,
    -- Of whose file it was made. Once that file has other bytes, a person reviews the correction; null = nothing to review.
    document_id bigint references documents on delete set null,
    corrected_at timestamptz not null default clock_timestamp(),
    primary key (digest, stage, field)
);
create index corrections_document on corrections (document_id);
