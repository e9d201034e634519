-- name: set_project
insert into project values ($1, $2, $3::jsonb)
on conflict (name) do update set definition_id = excluded.definition_id, definition = excluded.definition;

-- name: definitions
select definition from project order by name;

-- name: add_rows
insert into row_tally values ($1, $2, $3, $4)
on conflict (feature_set, part) do update
   set rows = row_tally.rows + excluded.rows,
       fingerprint = (row_tally.fingerprint::numeric + excluded.fingerprint) % 9223372036854775808;

-- name: add_journal
insert into journal values ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb) on conflict do nothing;

-- name: shards
select part, version, next from shard where name = $1;

-- name: shard
select state from shard where name = $1 and part = $2 and version = $3;

-- name: begin_set
-- Of two that do so at once the second waits for the first, and changes nothing.
insert into begun values ($1, $2) on conflict do nothing;

-- name: begun
select shards from begun where definition = $1;

-- name: save_shard
insert into shard as there values ($1, $2, $3 + 1, $4, $5)
on conflict (name, part) do update set version = $3 + 1, next = excluded.next, state = excluded.state
 where there.version = $3
returning part;

-- name: add_check
insert into vector_check values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb) on conflict do nothing;

-- name: last_check
select number, entry, until from vector_check where definition = $1 order by number desc limit 1;

-- name: parked
select topic, part, "offset", headers, reason from parked where taker = $1 order by seq desc limit $2;

-- name: claim_check
insert into checker as there values ($1, $2, now() + interval '10 seconds')
on conflict (definition) do update set instance = excluded.instance, until = excluded.until
 where there.instance = excluded.instance or there.until < now()
returning instance;

-- name: checker
select instance from checker where definition = $1;

-- name: know_topics
insert into topic select $1, * from unnest($2::text[], $3::text[]) on conflict do nothing;

-- name: topics
select topic, id from topic where definition = $1;
