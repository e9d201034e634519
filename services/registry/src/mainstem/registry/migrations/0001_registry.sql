-- Every table here is a fold of the registry's own events.

create table project(
    name          text primary key,
    definition_id text not null,            -- in force
    applied_by    text not null,
    event_id      text not null,
    recorded_time text not null
);

create table definition(
    definition_id text   primary key,
    project       text   not null,
    definition    jsonb  not null,
    applied_by    text[] not null           -- everybody who ever applied it, in order of names
);

create table version(
    model          text not null,
    number         int  not null,
    run            text not null unique,
    stage          text not null,
    judged_against text,                    -- digest in production when the gates judged
    fact           jsonb not null,          -- VersionRegistered as published
    event_id       text not null,
    correlation    text not null,
    recorded_time  text not null,
    primary key (model, number)
);

create table approval(
    model         text not null,
    number        int  not null,
    approved_by   text not null,
    onnx          text not null,
    comment       text not null,
    event_id      text not null,
    recorded_time text not null,
    primary key (model, number, approved_by)
);

create table refusal(
    event_id      text primary key,
    model         text not null,
    number        int  not null,
    request       text not null,
    requested_by  text not null,
    rule          text not null,
    reason        text not null,
    recorded_time text not null
);

create table deployment(
    model         text primary key,
    fact          jsonb not null,           -- DeploymentSet as published
    event_id      text not null,
    recorded_time text not null
);
