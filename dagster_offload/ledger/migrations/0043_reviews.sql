-- Which corrections a person has to review, for each document whose file changed. Up to now this was noted with the correction, for the
-- one document of which it was made: a renamed file and a copy, which the correction counted for, were never asked about.

create table reviews (
    document_id bigint not null references documents on delete cascade,
    digest text not null,                     -- of the earlier file, for which the correction was made
    stage text not null,
    field text not null,
    primary key (document_id, digest, stage, field),
    foreign key (digest, stage, field) references corrections on delete cascade
);
create index reviews_correction on reviews (digest, stage, field);
insert into reviews (document_id, digest, stage, field)
select c.document_id, c.digest, c.stage, c.field from corrections c join documents d using (document_id)
where c.digest is distinct from d.digest;
alter table corrections drop column document_id;
