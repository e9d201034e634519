-- What the running service is: it appends, and cannot change what it archived (ADR 13). Who migrates owns the tables.
do $$
begin
    begin
        create role mainstem_ledger nologin;
    exception
        when duplicate_object or unique_violation then null;    -- roles are the server's: another database has it
        when insufficient_privilege then
            raise exception 'the ledger runs as the role mainstem_ledger, which % may not make', current_user
                using errcode = 'insufficient_privilege', hint = format(
                    'have an administrator do: create role mainstem_ledger nologin; grant mainstem_ledger to %I', current_user);
    end;
    if not (select rolsuper from pg_roles where rolname = current_user) then
        execute format('grant mainstem_ledger to %I', current_user);
    end if;
    execute format('grant usage on schema %I to mainstem_ledger', current_schema());
    execute format('grant select, insert, update, delete on all tables in schema %I to mainstem_ledger', current_schema());
    execute format('alter default privileges in schema %I grant select, insert, update, delete on tables to mainstem_ledger', current_schema());
end $$;
revoke update, delete on block, checkpoint from mainstem_ledger;
revoke insert, update, delete on migration from mainstem_ledger;
