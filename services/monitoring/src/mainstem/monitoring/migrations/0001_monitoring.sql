create table project(name text primary key, definition_id text not null, definition jsonb not null);

create table version(
    model   text not null,
    version int  not null,
    project text not null,
    profile text not null,                  -- content address
    primary key (model, version)
);

create table promotion(
    event_id text  primary key,
    model    text  not null,
    number   int   not null,                -- from 1, in the order of the log
    fact     jsonb not null,                -- VersionPromoted as published
    envelope jsonb not null,
    unique (model, number)
);

create table activation(
    event_id       text primary key,
    model          text not null,
    version        int  not null,
    effective_from text not null
);

create table judged_window(
    event_id      text  primary key,
    model         text  not null,
    version       int,                      -- null when none answered
    start_time    text  not null,
    end_time      text  not null,
    predictions   int   not null,
    labelled      int   not null,
    figures       jsonb not null,
    recorded_time text  not null
);
create index judged_window_by_end on judged_window(model, end_time);

create table alert(
    alert         text   primary key,
    model         text   not null,
    fact          jsonb  not null,          -- AlertOpened as published
    outcome       text   not null,          -- what came of it so far
    recorded_us   bigint not null,
    closed_us     bigint,
    closed_by     text,
    closed_reason text
);
create index alert_by_model on alert(model);

create table retraining(
    event_id    text   primary key,
    alert       text   not null,
    model       text   not null,
    cut         text   not null,
    recorded_us bigint not null
);
