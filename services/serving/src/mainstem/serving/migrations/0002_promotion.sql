create table promotion(
    id      text primary key,               -- id of the VersionPromoted event
    model   text not null,
    version int  not null
);
