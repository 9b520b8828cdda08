-- Replicas that doubt what they see: the others run their checks.
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

revoke all on all functions in schema rollcall from public;
grant execute on function stay(uuid, boolean, boolean) to rollcall_app;

set local search_path to default;
reset role;
