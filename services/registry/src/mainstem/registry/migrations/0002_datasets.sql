-- A fold of training's events: what an edit of a feature set would leave without its origin.
create table dataset(
    dataset     text primary key,           -- address of the manifest
    feature_set text not null               -- id of the feature set
);
