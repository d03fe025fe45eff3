-- Long documents: the answers to their parts, how each is split, and how far it has been read.

create table part_answers (                   -- until the result is there, which takes their place
    stage text not null,
    recipe text not null,
    input_digest text not null,               -- of the document's text: renamed and copied files share them
    part_digest text not null,                -- SHA-256 of what was asked: the instruction and the part, or the notes merged
    answer jsonb not null,
    tokens_in integer,
    tokens_out integer,
    tokens_cached integer,
    seconds double precision not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (stage, input_digest, recipe, part_digest)
);

alter table work_items
    add column part_sizes jsonb,              -- [[from character, tokens a part], ...]; null = as the slot's context says
    add column parts_done integer not null default 0,
    add column parts_total integer;           -- null = not read in parts

create index work_items_in_parts on work_items (item_id)
    where parts_total is not null and state in ('pending', 'claimed', 'deferred');

alter table calls add column part text;       -- `part 7 of 400`, `merge 1 of 3`; null = about a whole document
