-- A slot may be unavailable before the first call, which no breaker notes: people want to know why.

alter table availability add column reason text;
comment on column availability.reason is
    'why it is unavailable, as found by a look at it while its breaker was closed; null = a breaker or a pause says it';
