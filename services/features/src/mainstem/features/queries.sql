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

-- name: begun_otherwise
select substr(name, length($1) + 1) as rest from shard
 where starts_with(name, $1) and not starts_with(name, $2) limit 1;

-- name: save_shard
insert into shard as there values ($1, $2, $3 + 1, $4, $5)
on conflict (name, part) do update set version = $3 + 1, next = excluded.next, state = excluded.state
 where there.version = $3
returning part;

-- name: add_check
insert into vector_check values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb) on conflict do nothing;

-- name: last_check
select number, entry from vector_check where definition = $1 order by number desc limit 1;
