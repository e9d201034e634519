-- name: lock_positions
-- In a fixed order, so that two processes that both think they own a partition wait and do not deadlock.
select topic, part, next_offset, origins from position
 where (topic, part) in (select * from unnest($1::text[], $2::int[])) order by topic, part for update;

-- name: all_positions
select topic, part, next_offset, origins, state from position;

-- name: save_positions
insert into position(topic, part, next_offset, origins, state)
select t, p, n, o::jsonb, s from unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::bytea[]) as x(t, p, n, o, s)
on conflict (topic, part) do update
   set next_offset = excluded.next_offset, origins = excluded.origins, state = coalesce(excluded.state, position.state)
 where (position.next_offset, position.origins, position.state)
       is distinct from (excluded.next_offset, excluded.origins, coalesce(excluded.state, position.state))
returning topic;

-- name: append_event
with appended as (
    insert into event_log(event_id, stream, version, topic, key, headers, payload)
    select $1, $2, coalesce((select max(version) from event_log where stream = $2), 0) + 1, $3, $4, $5::jsonb, $6
    returning seq
)
insert into outbox select seq from appended;

-- name: recall_event
insert into event_log(event_id, stream, version, topic, key, headers, payload)
select $1, $2, coalesce((select max(version) from event_log where stream = $2), 0) + 1, $3, $4, $5::jsonb, $6
on conflict (event_id) do nothing;

-- name: has_event
select exists(select from event_log where event_id = $1);

-- name: find_event
select headers, payload from event_log where event_id = $1;

-- name: sequence
with taken as (
    delete from outbox where seq in (select seq from outbox order by seq limit $1) returning seq
)
insert into event_pos(seq) select seq from taken order by seq;

-- name: next_events
select p.pos, l.topic, l.key, l.headers, l.payload from event_pos p join event_log l using (seq)
 where p.pos > $1 order by p.pos limit $2;

-- name: cursor
select pos, incarnation from relay_cursor;

-- name: advance
update relay_cursor set pos = $1 where pos < $1;

-- name: park
insert into parked(topic, part, "offset", reason, headers, payload, taker)
values ($1, $2, $3, $4, $5::jsonb, $6, $7) on conflict do nothing;

-- name: load_snapshot
select state from snapshot where name = $1;

-- name: save_snapshot
insert into snapshot values ($1, $2)
on conflict (name) do update set state = excluded.state where snapshot.state <> excluded.state
returning name;
