-- Replicas that doubt what they see: the others run their checks. And signs of life, which cost less.
--
-- Older releases go on beside newer ones: what they call stays, and they never doubt themselves.
set local role rollcall_owner;
set local search_path = rollcall, pg_temp;

alter table replicas add column suspicious boolean not null default false;

-- Says that a replica is there, and whether it can be relied on. Returns those that ask instances for their health and can be
-- relied on, or all that ask if there is no such one; how many others there are or were a moment ago; and how many
-- of them have not been heard of as they should be.
create function stay(p_replica uuid, p_checks boolean, p_suspicious boolean)
returns table (checking uuid[], others bigint, silent bigint)
language plpgsql security definer set search_path = rollcall, pg_temp as $$
begin
  insert into replicas as r (id, generation, alive_at, checks, suspicious)
    values (p_replica, 0, clock_timestamp(), p_checks, p_suspicious)
    on conflict (id) do update
      set alive_at = excluded.alive_at, checks = excluded.checks, suspicious = excluded.suspicious;
  delete from replicas r where r.id in (
    select o.id from replicas o where o.alive_at < clock_timestamp() - interval '1 day' for update skip locked);
  return query
    select coalesce(array_agg(r.id order by r.id) filter (where r.asks and not r.suspicious),
                    array_agg(r.id order by r.id) filter (where r.asks), '{}'),
           count(*) filter (where r.id <> p_replica),
           count(*) filter (where r.alive_at < clock_timestamp() - interval '2 seconds')
    from (
      select a.id, a.suspicious, a.alive_at,
             a.checks and a.alive_at > clock_timestamp() - interval '5 seconds' as asks
      from replicas a where a.alive_at > clock_timestamp() - interval '15 seconds') r;
end $$;

-- One flush may change every row of a page: the new versions are to find room beside the old ones.
alter table liveness set (fillfactor = 45);

-- As flush_liveness, and returns the number that the flush has in the feed: null if nothing was written, because it had been
-- written before or because none of the instances is there. Who flushed it need not read it there.
create function note_liveness(
  p_replica uuid, p_flush bigint, p_instance uuid[], p_check text[], p_last_seen timestamptz[],
  p_last_check timestamptz[], p_latency_ms real[], p_output text[], p_load real[], p_failures bigint[],
  p_changes integer[]
) returns bigint
language plpgsql security definer
set search_path = rollcall, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  number bigint;
begin
  perform 1 from liveness_head where only_row for no key update;
  insert into replicas as r (id, generation, flush) values (p_replica, 0, p_flush)
    on conflict (id) do update set flush = p_flush where r.flush < p_flush;
  if not found then
    return null;
  end if;
  with written as (
    insert into liveness as l (instance, check_id, last_seen, last_check, latency_ms, output, load, failures, changes)
      select w.* from unnest(p_instance, p_check, p_last_seen, p_last_check, p_latency_ms, p_output, p_load,
                             p_failures, p_changes)
          w(instance, check_id, last_seen, last_check, latency_ms, output, load, failures, changes)
        where (select i.id from instances i where i.id = w.instance) is not null
        order by w.instance, w.check_id
      on conflict (instance, check_id) do update set
        last_seen = greatest(l.last_seen, excluded.last_seen),
        last_check = greatest(l.last_check, excluded.last_check),
        latency_ms = case when excluded.last_check >= coalesce(l.last_check, '-infinity') then excluded.latency_ms
                     else l.latency_ms end,
        output = case when excluded.last_check >= coalesce(l.last_check, '-infinity') then excluded.output
                 else l.output end,
        load = coalesce(excluded.load, l.load),
        failures = case when excluded.changes = l.changes then l.failures + excluded.failures
                        when excluded.changes > l.changes then excluded.failures
                        else l.failures end,
        changes = greatest(l.changes, excluded.changes)
      returning l.*
  )
  insert into liveness_feed (seq, at, instance, check_id, last_seen, last_check, latency_ms, output, load, failures,
                             changes)
    select coalesce((select max(f.seq) from liveness_feed f), 0) + 1, clock_timestamp(), array_agg(w.instance),
           array_agg(w.check_id), array_agg(w.last_seen), array_agg(w.last_check), array_agg(w.latency_ms),
           array_agg(w.output), array_agg(w.load), array_agg(w.failures), array_agg(w.changes)
    from written w having count(*) > 0
    returning seq into number;
  -- the newest row stays, so that the numbers go on
  delete from liveness_feed f where f.at < clock_timestamp() - interval '1 minute'
    and f.seq < (select max(n.seq) from liveness_feed n);
  return number;
end $$;

revoke all on all functions in schema rollcall from public;
grant execute on function stay(uuid, boolean, boolean) to rollcall_app;
grant execute on function note_liveness(
    uuid, bigint, uuid[], text[], timestamptz[], timestamptz[], real[], text[], real[], bigint[], integer[]
  ) to rollcall_app;

set local search_path to default;
reset role;
