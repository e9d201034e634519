create table project(name text primary key, definition_id text not null, definition jsonb not null);

create table row_tally(
    feature_set text   not null,
    part        int    not null,
    rows        bigint not null,
    fingerprint bigint not null,            -- sum of the fingerprints of the payloads, mod 2^63
    primary key (feature_set, part)
);

create table journal(
    definition  text   not null,            -- a feature set that is changed begins a journal of its own
    feature_set text   not null,
    number      bigint not null,
    until       text   not null,
    applied     bigint not null,
    topics      jsonb  not null,
    runs        jsonb  not null,
    primary key (definition, number)
);
