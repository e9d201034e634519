-- name: lock_tree
-- One writer at a time: whoever comes second sees the positions of the first.
select frontier, recorded, unpublished from tree for update;

-- name: read_tree
select frontier, recorded, unpublished from tree;

-- name: save_tree
update tree set frontier = $1, recorded = $2, unpublished = $3;

-- name: positions
select topic, part, next_offset, origins from position
 where (topic, part) in (select * from unnest($1::text[], $2::int[]));

-- name: add_redelivered
insert into redelivered select * from unnest($1::text[], $2::int[], $3::bigint[])
on conflict (topic, part) do update set dropped = redelivered.dropped + excluded.dropped;

-- name: counts
select topic, coalesce(entries, 0) as entries, coalesce(dropped, 0) as second_copies
  from (select topic, sum(count)::bigint as entries from block group by topic) b
  full join (select topic, sum(dropped)::bigint as dropped from redelivered group by topic) r using (topic)
 order by topic;

-- name: blocks
select first_leaf, count, topic, part, first_offset, last_offset, offsets, ids, hashes, frames from block
 where topic = any($1::text[]) or exists (select from unnest($2::text[]) as prefix where starts_with(topic, prefix))
 order by first_leaf;

-- name: sealed_at
select first_leaf, end_leaf, address from sealed where first_leaf <= $1 and end_leaf > $1;

-- name: sealed_end
select coalesce(max(end_leaf), 0) as leaf from sealed;

-- name: seal
insert into sealed values ($1, $2, $3);

-- name: take_out
update block set frames = '' where first_leaf >= $1 and first_leaf < $2;

-- name: blocks_behind
select first_leaf, count, topic, part, first_offset, last_offset, offsets, ids, hashes, frames from block
 where first_leaf >= $1 order by first_leaf;

-- name: first_offsets
select first_offset from block where topic = $1 and part = $2 order by first_offset;

-- name: blocks_from
select first_leaf, count, topic, part, first_offset, last_offset, offsets, ids, hashes, frames from block
 where topic = $1 and part = $2 and first_offset >= $3 order by first_offset;

-- name: with_id
select first_leaf, count, topic, part, first_offset, last_offset, offsets, ids, hashes, frames from block
 where position($1::bytea in ids) > 0 and starts_with(topic, $2) order by first_leaf;

-- name: with_offset
select first_leaf, count, topic, part, first_offset, last_offset, offsets, ids, hashes, frames from block
 where topic = $1 and part = $2 and first_offset <= $3 order by first_offset desc limit 1;

-- name: with_leaves
select first_leaf, count, topic, part, first_offset, last_offset, offsets, ids, hashes, frames from block
 where first_leaf > $1 and first_leaf < $2 order by first_leaf;

-- name: newest
select first_leaf, count, topic, part, first_offset, last_offset, offsets, ids, hashes, frames from block
 where topic = $1 order by first_leaf desc;

-- name: hashes
select hashes from block order by first_leaf;

-- name: count
select coalesce(sum(count), 0)::bigint as entries from block
 where topic = any($1::text[]) or exists (select from unnest($2::text[]) as prefix where starts_with(topic, prefix));

-- name: hashes_from
select first_leaf, hashes from block where first_leaf + count > $1 order by first_leaf;

-- name: save_checkpoint
insert into checkpoint(size, root, note) values ($1, $2, $3) on conflict do nothing returning size;

-- name: checkpoints
select size, root, note from checkpoint order by size;

-- name: without_receipts
select first_leaf, count, topic, part, first_offset, last_offset, offsets, ids, hashes, frames from block
 where topic = any($1::text[]) and first_leaf >= (select coalesce(max(size), 0) from checkpoint) order by first_leaf;

-- name: newest_checkpoint
select note from checkpoint order by size desc limit 1;
