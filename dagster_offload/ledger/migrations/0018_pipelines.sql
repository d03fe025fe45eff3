-- One home, one pipeline: what each running `up` works with, so that another process does not bring back old settings.

create table pipelines (                      -- a row counts while its worker lives
    worker_id integer primary key references workers,
    recipes jsonb not null,                   -- stage -> recipe
    settings jsonb not null,                  -- key -> value, of the settings behind the recipes; no secrets
    version text not null,                    -- of dagster_offload
    file text,                                -- the pipeline file; null = there is none
    problem text                              -- why an edit of the file is not in force; null = it is
);
