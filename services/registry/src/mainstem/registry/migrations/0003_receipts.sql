-- A fold of the ledger's events: what proves that an event of ours is in the log, unchecked. Of one event there may be
-- several, and whoever relies on one checks it.
create table receipt(
    issued   text primary key,               -- id of the event that brought it
    event_id text   not null,
    leaf     bigint not null,
    entry    text   not null,               -- base64 of the entry of the log
    receipt  text   not null                -- C2SP tlog-proof
);
create index on receipt(event_id);
