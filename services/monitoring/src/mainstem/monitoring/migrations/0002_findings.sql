-- Which feature set a version reads; of those registered before, what their project said last.
alter table version add column feature_set text not null default '';
update version v
   set feature_set = coalesce(p.definition #>> array['feature_sets', p.definition #>> array['models', v.model, 'feature_set'], 'id'], '')
  from project p
 where p.name = v.project;
alter table version alter column feature_set drop default;

-- What was found wrong with a feature set: checks with differences, and folds that stand still.
create table finding(
    event_id    text   primary key,
    type        text   not null,
    definition  text   not null,
    fact        jsonb  not null,
    envelope    jsonb  not null,
    recorded_us bigint not null
);
create index finding_by_definition on finding(definition);
