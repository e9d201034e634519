-- What an alert is on: a model by its name, or a feature set by its identity.
alter table alert rename column model to subject;
alter index alert_by_model rename to alert_by_subject;
