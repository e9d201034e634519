-- Append-only: entries by the block. What a column holds is said in mainstem.ledger_service.domain.
create table block(
    first_leaf   bigint primary key,
    count        int    not null check (count > 0),
    topic        text   not null,
    part         int    not null,
    first_offset bigint not null,
    last_offset  bigint not null,
    offsets      bytea  not null,
    ids          bytea  not null,
    hashes       bytea  not null,
    frames       bytea  not null,
    unique (topic, part, first_offset)
);
-- They are digests, or compressed already.
alter table block alter ids set storage external, alter hashes set storage external, alter frames set storage external;

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'blocks are append-only: % refused', tg_op using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete or truncate on block
    for each statement execute function refuse_change();

-- Second copies that the fence dropped.
create table redelivered(
    topic   text   not null,
    part    int    not null,
    dropped bigint not null,
    primary key (topic, part)
);

create table tree(
    only_row    boolean primary key default true check (only_row),
    frontier    bytea   not null,           -- size and peaks
    recorded  text,                     -- highest recorded time of an entry, RFC 3339
    unpublished bigint not null         -- entries since the last checkpoint that are no checkpoints themselves
);
insert into tree(frontier, unpublished) values ('\x0000000000000000', 0);
