-- Which library this ledger holds, so that the scan of another one is refused.

alter table identity add column library text, add column library_host text;
comment on column identity.library is 'the resolved path of the library that was scanned last; null = of none since step 40';
comment on column identity.library_host is 'the host on which it was scanned';
