create table begun(
    definition text not null primary key,   -- feature set
    shards     int  not null                -- whoever is the first to begin it decides
);

insert into begun select name, 1 from snapshot;

insert into begun
select distinct declared.value ->> 'id', split_part(substr(shard.name, length(plan.name) + 1), '.', 1)::int
  from project, jsonb_each(project.definition -> 'feature_sets') as declared,
       lateral (select declared.key || '.' || substr(declared.value ->> 'id', 8, 8) || '.' as name) as plan
  join shard on starts_with(shard.name, plan.name)
on conflict do nothing;
