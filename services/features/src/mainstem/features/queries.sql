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
