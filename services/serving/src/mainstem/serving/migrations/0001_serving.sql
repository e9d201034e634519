create table project(name text primary key, definition_id text not null, definition jsonb not null);

create table approval(
    model   text not null,
    version int  not null,
    onnx    text not null,
    primary key (model, version, onnx)
);

create table deployment(
    id       text   primary key,            -- id of the DeploymentSet event
    model    text   not null,
    version  int    not null,
    place    bigint not null,               -- its place in the registry's order
    envelope jsonb  not null,
    fact     jsonb  not null
);

create table activation(
    deployment     text  primary key,       -- the DeploymentSet that asked for it
    model          text  not null,
    version        int   not null,
    onnx           text  not null,
    effective_from text  not null,
    from_offsets   jsonb not null           -- first offset it scores, by partition of the feature topic
);

create table refusal(
    deployment text primary key,
    model      text not null,
    version    int  not null,
    rule       text not null,
    reason     text not null
);

create table prediction_tally(
    model       text   not null,
    version     int    not null,
    channel     text   not null,
    part        int    not null,
    n           bigint not null,
    fingerprint bigint not null,            -- sum of the fingerprints of event ids, mod 2^63
    primary key (model, version, channel, part)
);
