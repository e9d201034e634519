-- Every definition that was ever in force: a request for a dataset is answered by the one it was made under.
create table definition(id text primary key, definition jsonb not null);
insert into definition select definition_id, definition from project on conflict do nothing;

create table dataset(
    dataset           text primary key,       -- address of the manifest
    parquet           text   not null,        -- address of the file with the rows
    request           text   not null,        -- the first that it was built for: a request, or a run
    model             text   not null,
    project           text   not null,
    definition        text   not null,
    feature_set       text   not null,
    feature_set_label text   not null,
    cut               text   not null,
    rows              bigint not null,
    held_out          bigint not null,
    unlabelled        bigint not null,
    content           text   not null,        -- logical hash of the rows
    requested_by      text   not null
);

create table dataset_request(
    request      text primary key,
    model        text  not null,
    project      text  not null,
    definition   text  not null,
    cut          text  not null,
    requested_by text  not null,
    envelope     jsonb not null,              -- of the event that asked
    status       text  not null default 'requested',
    dataset      text,
    reason       text
);
