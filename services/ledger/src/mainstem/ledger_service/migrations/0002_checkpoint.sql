-- Append-only: what the log signed and the witness cosigned (ADR 13).
create table checkpoint(
    size bigint primary key,
    root bytea  not null,
    note text   not null
);
create trigger append_only before update or delete or truncate on checkpoint
    for each statement execute function refuse_change();
