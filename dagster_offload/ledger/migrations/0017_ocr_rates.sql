-- How fast each host reads pages by OCR: sums over its recent pages. Older pages count less and less.

create table ocr_rates (
    host text primary key,
    pages double precision not null,
    seconds double precision not null,        -- of all lanes together
    lanes integer not null,                   -- how many pages it reads at once
    measured_at timestamptz not null
);
