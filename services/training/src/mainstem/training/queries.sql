-- name: set_project
insert into project values ($1, $2, $3::jsonb)
on conflict (name) do update set definition_id = excluded.definition_id, definition = excluded.definition;

-- name: definition
select definition from project where name = $1;

-- name: owner
select name from project where definition->'models' ? $1;

-- name: add_run
insert into run(run, model, project, cut, cause, requested_by, request)
values ($1, $2, $3, $4, $5, $6, $7::jsonb) on conflict do nothing;

-- name: end_run
update run set status = $2, reason = $3 where run = $1;

-- name: add_step
insert into step values ($1, $2, $3::jsonb, $4::jsonb, $5::jsonb, $6, $7) on conflict do nothing;

-- name: next_run
select * from run where status = 'requested' and run <> all($1) order by cut, run limit 1;

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
