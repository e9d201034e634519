-- name: set_project
insert into project values ($1, $2, $3::jsonb)
on conflict (name) do update set definition_id = excluded.definition_id, definition = excluded.definition;

-- name: definitions
select definition from project order by name;

-- name: add_version
insert into version values ($1, $2, $3, $4, $5) on conflict do nothing;

-- name: add_promotion
insert into promotion
select $1::text, $2::text, (select count(*) from promotion where model = $2) + 1, $3::jsonb, $4::jsonb
on conflict (event_id) do nothing;

-- name: add_activation
insert into activation values ($1, $2, $3, $4) on conflict do nothing;

-- name: add_window
insert into judged_window values ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9) on conflict do nothing;

-- name: judged
select from judged_window where event_id = $1;

-- name: add_alert
insert into alert values ($1, $2, $3::jsonb, $4, $5) on conflict do nothing;

-- name: close_alert
update alert set closed_us = $2, closed_by = $3, closed_reason = $4 where alert = $1 and closed_us is null;

-- name: add_retraining
with asked as (insert into retraining values ($1, $2, $3, $4, $5) on conflict do nothing)
update alert set outcome = 'asked' where alert = $2;

-- name: add_finding
insert into finding values ($1, $2, $3, $4::jsonb, $5::jsonb, $6) on conflict do nothing;

-- name: lock
-- One decision at a time about one model, or set; held until the transaction ends.
select pg_advisory_xact_lock(hashtextextended(current_schema() || '.' || $1, 0));

-- name: profile
select profile from version v
 where model = $1 and version = $2
   and exists(select from promotion p where p.model = v.model and (p.fact ->> 'version')::int = v.version);

-- name: definition
select feature_set from version where model = $1 and version = $2;

-- name: readers
select p.fact, p.envelope
  from (select distinct on (model) model, fact, envelope from promotion order by model, number desc) p
  join version v on v.model = p.model and v.version = (p.fact ->> 'version')::int
 where v.feature_set = $1 order by p.model collate "C";

-- name: findings
select distinct on (type collate "C") fact, envelope from finding where definition = $1
 order by type collate "C", recorded_us desc, event_id collate "C";

-- name: promotions
select fact, envelope from promotion where model = $1 order by number;

-- name: open_alerts
select fact, outcome, recorded_us from alert
 where subject = $1 and (closed_us is null or closed_us > $2::bigint) order by recorded_us, alert;

-- name: last_request
select max(recorded_us) as recorded_us from retraining where model = $1;

-- name: production
select distinct on (p.model) p.model, (p.fact ->> 'version')::int as version, max(a.effective_from) as effective_from
  from promotion p
  left join activation a on a.model = p.model and a.version = (p.fact ->> 'version')::int
 group by p.model, p.number, p.fact
 order by p.model, p.number desc;

-- name: last_windows
select distinct on (model, version) model, version, start_time, end_time, predictions, labelled, figures
  from judged_window where version is not null order by model, version, end_time desc;

-- name: window_counts
select model, count(distinct end_time) as windows from judged_window group by model;

-- name: windows
select version, start_time, end_time, predictions, labelled, figures, recorded_time from judged_window
 where model = $1 order by end_time desc, version limit $2;

-- name: alerts
select fact, outcome, recorded_us, closed_us, closed_by, closed_reason from alert
 where ($1::text is null or subject = $1) and ($2::bool is null or $2 = (closed_us is null))
 order by recorded_us desc, alert;

-- name: find_alert
select fact, outcome, recorded_us, closed_us, closed_by, closed_reason from alert
 where starts_with(alert, $1) order by alert limit 2;

-- name: retrainings
select event_id, cut from retraining where alert = $1 order by recorded_us;
