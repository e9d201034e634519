create table shard(
    name    text   not null,                -- feature set, definition, number of shards, and stage
    part    int    not null,                -- partition of the stage's topic
    version bigint not null,                -- whoever saves must have loaded the version before
    next    bigint not null,                -- offset from which the topic is read again
    state   bytea  not null,
    primary key (name, part)
);
