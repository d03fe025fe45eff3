-- The columns have the words that people see: concurrency and prompt cache size. What `auto` learned is stored under the old
-- names, so it is learned again.
alter table slots rename column width_memory to concurrency_memory;
alter table slots rename column width_since to concurrency_since;
alter table slots rename column width_found to concurrency_found;
alter table slots rename column places to prompt_cache_size;
alter table slots rename column places_from to prompt_cache_size_from;
update slots set concurrency_memory = null, concurrency_found = null;
