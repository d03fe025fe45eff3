-- Each fault of a row has its code, so that faults that differ can be counted too.

-- A worker of an older version changes `items` and no codes. If the numbers of entries then differ, a new row begins; if it has
-- replaced an entry, one code of the row is that of another fault.
alter table stage_faults add column codes text[] not null default '{}';

-- A row in one code had it for all of its faults. An item 0 stood between faults of two codes before this step.
update stage_faults set items = array_remove(items, 0),
    codes = array_fill(code, array[cardinality(array_remove(items, 0))]);

alter table stage_faults alter column code drop not null;
update stage_faults set code = null where held_since is null;

comment on column stage_faults.codes is 'the fault of each entry of items';
comment on column stage_faults.code is 'of the hold: the fault in which its documents ended, or different_faults';

-- Documents that failed before the slot's last answer of the stage do not count, so this time is read at each fault.
create index calls_answered on calls (slot, stage, ended_at) where outcome = 'ok';
