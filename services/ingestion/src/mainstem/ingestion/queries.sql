-- name: set_project
insert into project values ($1, $2, $3::jsonb)
on conflict (name) do update set definition_id = excluded.definition_id, definition = excluded.definition;

-- name: definitions
select definition from project order by name;

-- name: add_quarantined
insert into quarantined
select * from jsonb_to_recordset($1::jsonb) as x(
    quarantine_id text, source text, reason text, column_name text, detail text, part int, "offset" bigint,
    record_id text, payload text, payload_bytes int, event_time text, recorded_time text, accepted_id text)
on conflict do nothing;

-- name: set_redriven
update quarantined set accepted_id = $2 where quarantine_id = $1;

-- name: add_tally
insert into tally values ($1, $2, $3, $4, $5)
on conflict (source, part) do update
   set accepted = tally.accepted + excluded.accepted,
       quarantined = tally.quarantined + excluded.quarantined,
       fingerprint = (tally.fingerprint::numeric + excluded.fingerprint) % 9223372036854775808;

-- name: list_quarantined
select quarantine_id, source, reason, column_name, detail, part, "offset", record_id, payload_bytes, event_time,
       recorded_time, accepted_id
  from quarantined
 where ($1::text is null or source = $1) and ($2::text is null or reason = $2)
   and ($3::text is null or ($3 = 'redriven') = (accepted_id is not null))
 order by recorded_time desc, quarantine_id limit $4;

-- name: find_quarantined
select * from quarantined where starts_with(quarantine_id, $1) limit 2;
