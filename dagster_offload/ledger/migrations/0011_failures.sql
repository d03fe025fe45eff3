-- Of each failure that a document may have caused: what its call ended in, and what the trial right after it ended in.
-- Shown when the document is quarantined. Rows from before have neither.
alter table cuts add column reason text;
alter table cuts add column trial text;
