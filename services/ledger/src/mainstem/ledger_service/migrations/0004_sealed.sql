-- Closed ranges of leaves whose entries stand in files (ADR 18). The command that seals them runs as the owner.
create table sealed(
    first_leaf bigint primary key,
    end_leaf   bigint not null check (end_leaf > first_leaf),
    address    text   not null              -- of the artifact
);
create trigger append_only before update or delete or truncate on sealed
    for each statement execute function refuse_change();
revoke insert, update, delete on sealed from mainstem_ledger;

create function refuse_unless_sealed() returns trigger language plpgsql as $$
begin
    if new.frames = '' and to_jsonb(new) - 'frames' = to_jsonb(old) - 'frames' and exists(
        select from sealed where first_leaf <= old.first_leaf and end_leaf >= old.first_leaf + old.count
    ) then
        return new;
    end if;
    raise exception 'blocks are append-only: % refused', tg_op using errcode = 'restrict_violation';
end $$;
drop trigger append_only on block;
create trigger append_only before delete or truncate on block for each statement execute function refuse_change();
create trigger only_sealed before update on block for each row execute function refuse_unless_sealed();
