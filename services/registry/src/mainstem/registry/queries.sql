-- name: lock
-- One decision at a time about one thing; held until the transaction ends.
select pg_advisory_xact_lock(hashtextextended(current_schema() || '.' || $1, 0));

-- name: add_definition
insert into definition values ($1, $2, $3::jsonb, array[$4::text])
on conflict (definition_id) do update
   set applied_by = array(select distinct unnest(definition.applied_by || excluded.applied_by) order by 1);

-- name: set_project
insert into project values ($1, $2, $3, $4, $5)
on conflict (name) do update
   set definition_id = excluded.definition_id, applied_by = excluded.applied_by,
       event_id = excluded.event_id, recorded_time = excluded.recorded_time;

-- name: add_version
insert into version
select $1, $2::int, $3, $4, (select fact ->> 'onnx' from version where model = $1 and stage = 'production'),
       $5::jsonb, $6, $7, $8
on conflict do nothing;

-- name: set_production
update version set stage = case number when $2 then 'production' else 'archived' end
 where model = $1 and (number = $2 or stage = 'production');

-- name: add_approval
insert into approval values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing;

-- name: add_refusal
insert into refusal values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing;

-- name: set_deployment
insert into deployment values ($1, $2::jsonb, $3, $4)
on conflict (model) do update
   set fact = excluded.fact, event_id = excluded.event_id, recorded_time = excluded.recorded_time;

-- name: projects
select * from project order by name;

-- name: definitions
select * from definition where $1::text is null or definition_id = $1 order by definition_id;

-- name: versions
select v.*, coalesce(d.applied_by, '{}') as applied_by,
       array(select a.approved_by from approval a
              where a.model = v.model and a.number = v.number and a.onnx = v.fact ->> 'onnx'
              order by a.recorded_time, a.event_id) as approved_by
  from version v left join definition d on d.definition_id = v.fact ->> 'definition'
 where $1::text is null or v.model = $1
 order by v.model, v.number;

-- name: add_dataset
insert into dataset values ($1, $2) on conflict do nothing;

-- name: datasets
select dataset from dataset where feature_set = $1 order by dataset;

-- name: approvals
select number, approved_by, onnx, comment, event_id, recorded_time from approval
 where model = $1 order by recorded_time, event_id;

-- name: refusals
select number, request, requested_by, rule, reason, event_id, recorded_time from refusal
 where model = $1 order by recorded_time, event_id;

-- name: deployment
select fact from deployment where model = $1;

-- name: add_receipt
insert into receipt values ($1, $2, $3, $4, $5) on conflict do nothing;

-- name: receipts
select event_id, leaf, entry, receipt from receipt where event_id = any($1::text[]) order by issued;
