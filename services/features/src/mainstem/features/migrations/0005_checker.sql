create table checker(
    definition text        not null primary key,    -- feature set
    instance   text        not null,                -- the process that checks it
    until      timestamptz not null                 -- from then on another may, unless this one has said so again
);
