-- A version of a record that a sink did not take gives way to a newer version of the same document.

alter table deliveries drop constraint deliveries_state_check;
alter table deliveries add constraint deliveries_state_check check (state in ('pending', 'sent', 'dead', 'superseded'));
comment on column deliveries.state is 'superseded: the sink did not take it, and a newer version of the document''s record is sent instead';
comment on column deliveries.record is 'null once it was sent or superseded';

update deliveries o set state = 'superseded', record = null, not_before = null
where (o.state = 'dead' or o.state = 'pending' and o.reason is not null) and exists (
    select from deliveries n where n.document_id = o.document_id and n.sink = o.sink and n.delivery_id > o.delivery_id);
