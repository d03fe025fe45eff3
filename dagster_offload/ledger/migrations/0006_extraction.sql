-- Pages read by OCR, until the document's text is there, which takes their place.

create table ocr_pages (
    input_digest text not null,               -- of the file's bytes
    languages text not null,                  -- as they were read: kor+eng
    page integer not null,                    -- from 1
    text text not null,                       -- "" = the page says nothing readable
    read_at timestamptz not null default clock_timestamp(),
    primary key (input_digest, languages, page)
);
