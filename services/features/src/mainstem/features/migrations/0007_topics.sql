create table topic(
    definition text not null,               -- feature set
    topic      text not null,
    id         text not null,               -- of the topic that it has read, as the broker knows it
    primary key (definition, topic)
);
