-- The next documents to extract, in the order of their turn: later stages, of which a library being extracted has ever
-- more, do not stand between them.
create index work_items_to_extract on work_items (must_run_alone, priority desc, document_id)
    where stage = 'extract' and state = 'pending';
