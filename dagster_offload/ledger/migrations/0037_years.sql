-- What a ledger needs after years and with a million documents.

-- A worker's row goes a year after the worker ended, and what its `up` worked with goes with it.
alter table pipelines drop constraint pipelines_worker_id_fkey,
    add constraint pipelines_worker_id_fkey foreign key (worker_id) references workers on delete cascade;

-- Corrections belong to the bytes of a file.
create index documents_digest on documents (digest);

-- The view of a stage named `changes` is `record_changes`.
alter table record_changes rename to changed_records;
alter sequence record_changes_change_id_seq rename to changed_records_change_id_seq;
alter index record_changes_pkey rename to changed_records_pkey;
