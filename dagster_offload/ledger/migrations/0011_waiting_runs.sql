-- The runs that were put off and have not ended: which documents and stages each one waits for, and the slot it waits for
-- (null: another worker holds the documents, or they are in back-off). The run's process looks here to know when to go on.
-- After a crash, the row says that the run only waited.
create table waiting_runs (
  run_id text primary key,
  documents bigint[] not null,
  stages text[] not null,
  slot text,
  reason text not null,
  since timestamptz not null default clock_timestamp()
);
