-- Several takers of one service may read the same record, and each that cannot take it has its own reason.
alter table parked
    add column taker text   not null default '',    -- which of them; empty where a service has one
    add column seq   bigint generated always as identity (cache 1);     -- the order in which they were parked
alter table parked drop constraint parked_pkey, add primary key (topic, part, "offset", taker);
create index on parked(taker, seq);
