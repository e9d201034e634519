-- What every service keeps beside its own tables.

create table position(
    topic       text   not null,
    part        int    not null,
    next_offset bigint not null,
    origins     jsonb  not null default '{}',   -- origin stream -> highest number applied
    state       bytea,                          -- state of this partition, if the service keeps one
    primary key (topic, part)
);

create table event_log(
    seq       bigint generated always as identity (cache 1) primary key,
    event_id  text   not null unique,
    stream    text   not null,
    version   bigint not null,
    topic     text   not null,
    key       bytea  not null,
    headers   jsonb  not null,                  -- [[name, value], ...] without the origin
    payload   bytea  not null,
    unique (stream, version)
);
create table outbox(seq bigint primary key);    -- written with the event, moved to event_pos by the one sequencer
create table event_pos(
    pos bigint generated always as identity (cache 1) primary key,
    seq bigint not null unique references event_log
);
create table relay_cursor(
    only_row    boolean primary key default true check (only_row),
    pos         bigint not null default 0,
    incarnation text   not null default gen_random_uuid()::text
);
insert into relay_cursor default values;

create table parked(
    topic   text   not null,
    part    int    not null,
    "offset" bigint not null,
    reason  text   not null,
    headers jsonb  not null,
    payload bytea,
    primary key (topic, part, "offset")
);

create table snapshot(name text primary key, state bytea not null);
