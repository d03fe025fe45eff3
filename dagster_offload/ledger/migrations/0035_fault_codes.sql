-- Each fault of a row has its code, so that faults that differ can be counted too.
alter table stage_faults add column codes text[];

-- A row in one code had it for all of its faults. An item 0 stood between faults of two codes before this step.
update stage_faults set items = array_remove(items, 0),
    codes = array_fill(code, array[cardinality(array_remove(items, 0))]);

alter table stage_faults alter column codes set not null, alter column code drop not null;
update stage_faults set code = null where held_since is null;

comment on column stage_faults.codes is 'the fault of each entry of items';
comment on column stage_faults.code is 'of the hold: the fault in which its documents ended, or different_faults; null = no hold';
