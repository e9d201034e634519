-- name: set_project
insert into project values ($1, $2, $3::jsonb)
on conflict (name) do update set definition_id = excluded.definition_id, definition = excluded.definition;

-- name: definitions
select definition from project order by name;

-- name: add_approval
insert into approval values ($1, $2, $3) on conflict do nothing;

-- name: is_approved
select exists(select from approval where model = $1 and version = $2 and onnx = $3) as found;

-- name: add_promotion
insert into promotion values ($1, $2, $3) on conflict do nothing;

-- name: is_promoted
select exists(select from promotion where id = $1 and model = $2 and version = $3)
   and not exists(select from activation a join deployment d on d.id = a.deployment
                   where d.envelope->>'causation' = $1 and d.id <> $4) as found;

-- name: add_deployment
insert into deployment values ($1, $2, $3, $4, $5::jsonb, $6::jsonb) on conflict do nothing;

-- name: deployed
select distinct model, fact ->> 'feature_set' as label, fact ->> 'feature_definition' as id from deployment;

-- name: pending
select envelope, fact from deployment d
 where not exists(select from activation where deployment = d.id)
   and not exists(select from refusal where deployment = d.id)
 order by place, id;

-- name: deployment
select envelope from deployment where id = $1;

-- name: add_activation
insert into activation values ($1, $2, $3, $4, $5, $6::jsonb) on conflict do nothing;

-- name: add_refusal
insert into refusal values ($1, $2, $3, $4, $5) on conflict do nothing;

-- name: is_decided
select exists(select from activation where deployment = $1) or exists(select from refusal where deployment = $1)
    as found;

-- name: activations
select a.*, d.fact from activation a join deployment d on d.id = a.deployment order by a.model, d.place, d.id;

-- name: add_tally
insert into prediction_tally values ($1, $2, $3, $4, $5, $6)
on conflict (model, version, channel, part) do update
   set n = prediction_tally.n + excluded.n,
       fingerprint = (prediction_tally.fingerprint::numeric + excluded.fingerprint) % 9223372036854775808;

-- name: stored_positions
-- Locked, so that two processes that both think they own a partition wait for each other.
select topic, part, next_offset from position
 where (topic, part) in (select * from unnest($1::text[], $2::int[])) order by topic, part for update;
