-- Of each failure that a document may have caused: what its call ended in, and what the trial right after it ended in.
-- Shown when the document is quarantined. Rows from before have neither.
alter table cuts add column reason text;
alter table cuts add column trial text;

-- What the server of a misconfigured slot lists: another list is a reason to ask it at once.
alter table slots add column models_listed text;
-- Slots that were misconfigured before are asked again, too, unless they refuse every document while they answer trials.
update slots set retry_at = clock_timestamp() where breaker = 'misconfigured' and not starts_with(reason, 'every_document_refused');
