create table vector_check(
    definition       text   not null,
    number           bigint not null,
    feature_set      text   not null,
    until            text   not null,
    entry            bigint not null,       -- of the journal
    fraction         double precision not null,
    rows             bigint not null,
    cells            bigint not null,
    differing        bigint not null,
    first_difference jsonb,
    primary key (definition, number)
);
