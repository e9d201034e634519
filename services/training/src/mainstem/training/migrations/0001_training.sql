create table project(name text primary key, definition_id text not null, definition jsonb not null);

create table run(
    run          text primary key,
    model        text not null,
    project      text not null,
    cut          text not null,
    cause        text not null,
    requested_by text not null,
    request      jsonb not null,              -- envelope of the event that asked
    status       text not null default 'requested',
    reason       text
);

create table step(
    run         text not null,
    step        text not null,
    inputs      jsonb not null,
    outputs     jsonb not null,
    figures     jsonb not null,
    code        text not null,
    environment text not null,
    primary key (run, step)
);

create table version(model text, version int, onnx text not null, feature_set text not null, primary key (model, version));
create table production(model text primary key, version int not null);
