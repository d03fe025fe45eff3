-- Upkeep that one call does not complete goes on where it ended, instead of beginning anew.

create table upkeep_positions (
    name text primary key,                    -- of the kind of upkeep
    reached text not null                     -- what was looked at last
);
