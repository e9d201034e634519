create table project(name text primary key, definition_id text not null, definition jsonb not null);

create table quarantined(
    quarantine_id text   primary key,
    source        text   not null,
    reason        text   not null,
    column_name   text,
    detail        text   not null,
    part          int    not null,
    "offset"      bigint not null,
    record_id     text,
    payload       text   not null,          -- base64
    payload_bytes int    not null,
    event_time    text,
    recorded_time text   not null,
    accepted_id   text                      -- the correction that took its place
);
create index quarantined_by_reason on quarantined(source, reason);

create table tally(
    source      text    not null,
    part        int     not null,
    accepted    bigint  not null,
    quarantined bigint  not null,
    fingerprint bigint  not null,           -- sum of the fingerprints of accepted ids, mod 2^63
    primary key (source, part)
);
