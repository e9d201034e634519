-- name: set_project
insert into project values ($1, $2, $3::jsonb)
on conflict (name) do update set definition_id = excluded.definition_id, definition = excluded.definition;

-- name: definition
select definition from project where name = $1;

-- name: add_definition
insert into definition values ($1, $2::jsonb) on conflict do nothing;

-- name: definition_by_id
select definition from definition where id = $1;

-- name: owner
select name, definition_id from project where definition->'models' ? $1;

-- name: add_run
insert into run(run, model, project, cut, cause, requested_by, request)
values ($1, $2, $3, $4, $5, $6, $7::jsonb) on conflict do nothing;

-- name: add_import
insert into import values ($1, $2) on conflict do nothing;

-- name: end_run
update run set status = $2, reason = $3 where run = $1;

-- name: add_step
insert into step values ($1, $2, $3::jsonb, $4::jsonb, $5::jsonb, $6, $7) on conflict do nothing;

-- name: next_run
select run.*, import.onnx as imported from run left join import using (run)
 where status = 'requested' and run <> all($1) order by cut, run limit 1;

-- name: runs
select run, model, project, cut, cause, requested_by, status, reason from run order by cut, run;

-- name: steps
select * from step where run = $1;

-- name: add_version
insert into version values ($1, $2, $3, $4) on conflict do nothing;

-- name: set_production
insert into production values ($1, $2) on conflict (model) do update set version = excluded.version;

-- name: incumbent
select v.version, v.onnx, v.feature_set from production p join version v using (model, version) where p.model = $1;

-- name: add_request
insert into dataset_request(request, model, project, definition, cut, requested_by, envelope)
values ($1, $2, $3, $4, $5, $6, $7::jsonb) on conflict do nothing;

-- name: next_request
select * from dataset_request where status = 'requested' and request <> all($1) order by cut, request limit 1;

-- name: end_request
update dataset_request set status = $2, dataset = $3, reason = $4 where request = $1 and status = 'requested';

-- name: add_dataset
-- Who built it first stays; the file is the one that was written last, since an earlier one may have been deleted.
insert into dataset values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
on conflict (dataset) do update set parquet = excluded.parquet;

-- name: datasets
select * from dataset order by cut, dataset;

-- name: requests
select request, model, project, definition, cut, requested_by, status, dataset, reason
  from dataset_request order by cut, request;
