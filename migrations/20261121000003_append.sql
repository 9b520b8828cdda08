-- The only ways into the log and the rows. All run as rollcall_owner, whoever calls them.
set local role rollcall_owner;
set local search_path = rollcall, pg_temp;

-- Begins the next epoch. The log has lost its end, or is a copy: revisions that were given out before may stand for
-- something else now, so the new epoch begins above all of them, at a multiple of 10^9. Its first event tells of it.
-- Called with the head locked.
create function start_epoch(p_beyond integer, p_known bigint, p_ancestor bigint, p_reason text, p_replica uuid)
returns void
language plpgsql set search_path = rollcall, pg_temp as $$
declare
  head     log_head;
  top      bigint;
  top_hash bytea;
  first    bigint;
  era      integer;
  happened timestamptz := clock_timestamp();
  told     text;
begin
  select * into head from log_head;
  select b.rev_to, b.hash into top, top_hash from batches b order by b.rev_to desc limit 1;
  top := coalesce(top, 0);
  era := greatest(head.epoch, p_beyond) + 1;
  first := (greatest(top, head.floor, p_known) / 1000000000 + 1) * 1000000000;
  update log_head set epoch = era, floor = first - 1, timeline = server_timeline(),
    system_identifier = (select c.system_identifier from pg_control_system() c);
  perform ensure_partitions(first, first);
  told := json_build_object('reason', p_reason, 'epoch', era, 'parent', top, 'known', p_known,
    'lost_from', case when p_known > p_ancestor then p_ancestor + 1 end,
    'lost_to', case when p_known is distinct from p_ancestor then p_known end)::text;
  insert into events (revision, epoch, time, kind, service, instance, actor, origin, request_id, data)
    values (first, era, happened, 'epoch_started', null, null, 'rollcall', 'rollcall', null, told);
  insert into batches values (gen_random_uuid(), era, first, first,
    batch_hash(top_hash, first, first, era, event_line(first, era, happened, 'epoch_started',
                                                                 null, null, 'rollcall', 'rollcall', null, told)),
    '{}', p_replica, happened);
end $$;

-- For a reader whose past the log does not know: raises the epoch, unless somebody has done so since `p_expected` and
-- knew as much. `p_known` is the last revision that the reader saw, `p_ancestor` the last that the log still has.
create function raise_epoch(p_expected integer, p_known bigint, p_ancestor bigint, p_replica uuid) returns boolean
language plpgsql security definer set search_path = rollcall, pg_temp as $$
declare
  head log_head;
begin
  select * into head from log_head for no key update;
  if head.floor >= p_known then
    return false;
  end if;
  perform start_epoch(p_expected, p_known, p_ancestor, 'the log does not know the past that was followed', p_replica);
  return true;
end $$;

-- Whether this is the server that the log was last written on, and was not promoted since.
create function same_server() returns boolean
language sql stable security definer set search_path = rollcall, pg_temp as $$
  select h.timeline = server_timeline() and h.system_identifier = c.system_identifier
  from log_head h, pg_control_system() c
$$;

-- Another server, or a promoted one, may lack the log's end: the epoch is raised.
create function meet_server(p_replica uuid, p_known bigint) returns boolean
language plpgsql security definer set search_path = rollcall, pg_temp as $$
declare
  top bigint;
begin
  perform 1 from log_head for no key update;
  if same_server() then
    return false;
  end if;
  select coalesce(max(b.rev_to), 0) into top from batches b;
  perform start_epoch(0, greatest(p_known, top), top, 'the database server is another one, or was promoted', p_replica);
  return true;
end $$;

-- Takes the next generation of a replica's writer, under the head lock: what its older connections still have under
-- way either comes before this or is refused.
create function open_writer(p_replica uuid, p_known bigint) returns bigint
language plpgsql security definer set search_path = rollcall, pg_temp as $$
declare
  taken bigint;
begin
  perform meet_server(p_replica, p_known);
  perform 1 from log_head for no key update;
  insert into replicas as r (id, generation) values (p_replica, 1)
    on conflict (id) do update set generation = r.generation + 1
    returning generation into taken;
  return taken;
end $$;

-- Appends a batch of groups. A group is written as a whole or not at all: it names each row that it changes with the
-- version that it had, and each row that it only read (guards; version 0 = must not exist).
--
-- The order of things matters. The head is locked first, so that what is read afterwards (each statement of a
-- function sees what was committed before it began) is the newest there is. Rows held by a stranger are skipped, so
-- that an idle session somewhere delays its own rows only. The lock is released by the commit, when the rows and
-- events are visible: revision order is commit order.
--
-- state: 'done' (see outcomes), 'known' (this batch had been written before: its outcomes), 'epoch' (the log is in
-- another epoch), 'forked' (the caller's revision is not in this log), 'superseded' (a newer connection writes).
create function append(
  p_batch uuid, p_replica uuid, p_generation bigint, p_epoch integer, p_revision bigint, p_anchor bytea,
  p_now timestamptz, p_groups integer,
  -- instances: at most one change a row. before 0: new. after 0: gone.
  i_group integer[], i_id uuid[], i_before bigint[], i_after bigint[], i_event integer[], i_service text[],
  i_key text[], i_key_given boolean[], i_status text[], i_failures integer[], i_changes integer[], i_spec text[],
  i_registered timestamptz[],
  -- configuration entries. before 0: new.
  c_group integer[], c_id uuid[], c_before bigint[], c_after bigint[], c_event integer[], c_service text[],
  c_environment text[], c_content text[], c_comment text[], c_actor text[], c_created timestamptz[],
  -- rows that were only read
  g_group integer[], g_table text[], g_id uuid[], g_version bigint[],
  -- events, in the order of the batch
  e_group integer[], e_kind text[], e_service text[], e_instance uuid[], e_actor text[], e_origin text[],
  e_request text[], e_data text[],
  -- keys of requests that must not be carried out twice, with what they came to
  k_group integer[], k_event integer[], k_changed boolean[], k_key text[], k_fingerprint bytea[], k_answer text[]
) returns table (state text, epoch integer, rev_from bigint, rev_to bigint, hash bytea, outcomes smallint[])
language plpgsql security definer
set search_path = rollcall, pg_temp
-- Plans are kept for the life of a connection, and were perhaps made when the tables were empty. So the statements leave
-- the planner no choice: a table is never joined, its rows are looked up one by one (`offset 0` keeps a subquery from
-- becoming a join), whatever the statistics said on that day.
set enable_seqscan = off
-- What is ruled out is costed so high that PostgreSQL would compile each statement first, every time.
set jit = off
-- Nor does it pay to plan for the arrays of each batch anew: a small batch would take three times as long.
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  head      log_head;
  known     batches;
  top       bigint;
  top_hash  bytea;
  gone      uuid[];
  held_l    uuid[];
  held_i    uuid[];
  held_c    uuid[];
  result    smallint[];
  rev       bigint[];
  last      bigint;
  lines     text;
  new_hash  bytea;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'append needs READ COMMITTED: a snapshot from before the head lock would be stale';
  end if;
  select * into head from log_head where only_row for no key update;
  -- From here on hardly anybody is waited for: all other writers wait as well. Where a stranger is in the way all the
  -- same (his row with the same identity is not committed yet, or he makes an index), the batch fails.
  perform set_config('lock_timeout', '500ms', true);

  select * into known from batches b where b.batch = p_batch;
  if found then
    return query select 'known', known.epoch, known.rev_from, known.rev_to, known.hash, known.outcomes;
    return;
  end if;
  if p_generation is distinct from (select r.generation from replicas r where r.id = p_replica) then
    return query select 'superseded', head.epoch, null::bigint, null::bigint, null::bytea, null::smallint[];
    return;
  end if;
  if head.epoch <> p_epoch then
    return query select 'epoch', head.epoch, null::bigint, null::bigint, null::bytea, null::smallint[];
    return;
  end if;
  if p_revision > 0 and not exists (select from batches b where b.rev_to = p_revision and b.hash = p_anchor) then
    return query select 'forked', head.epoch, null::bigint, null::bigint, null::bytea, null::smallint[];
    return;
  end if;
  select b.rev_to, b.hash into top, top_hash from batches b order by b.rev_to desc limit 1;
  top := greatest(coalesce(top, 0), head.floor);

  held_i := array(
    select r.id from (select w.id from unnest(i_id, i_after) w(id, after) where w.after > 0 order by w.id) w,
      lateral (select r.id from instances r where r.id = w.id for no key update skip locked) r);
  if 0 = any(i_after) then
    -- What is to go must go at once, with what liveness knows of it. A flush writes the liveness of the instances that
    -- it sees, so that none may be under way: its rows would stay behind.
    perform 1 from liveness_head where only_row for no key update;
    gone := array(select w.id from unnest(i_id, i_after) w(id, after) where w.after = 0 order by w.id);
    held_l := array(
      select l.instance from unnest(gone) w(id),
        lateral (select l.instance from liveness l where l.instance = w.id for update skip locked) l);
    held_i := held_i || array(
      select r.id from unnest(gone) w(id),
        lateral (select r.id from instances r where r.id = w.id for update skip locked) r
      where r.id = any(held_l) or (select l.instance from liveness l where l.instance = r.id) is null);
  end if;
  held_c := array(
    select r.id from (select w.id from unnest(c_id) w(id) order by w.id) w,
      lateral (select r.id from config_entries r where r.id = w.id for no key update skip locked) r);

  -- the worst that is wrong with each group: 1 a version or an identity differs, 2 a row is held by a stranger
  with wrong(g, what) as (
    select w.g, case when coalesce(r.version, 0) <> w.before then 1 else 2 end
      from unnest(i_group, i_id, i_before) w(g, id, before)
        left join lateral (select r.version from instances r where r.id = w.id offset 0) r on true
      where coalesce(r.version, 0) <> w.before or (w.before > 0 and w.id not in (select unnest(held_i)))
    union all
    select w.g, 1
      from unnest(i_group, i_before, i_service, i_key, i_key_given) w(g, before, service, key, given),
        lateral (select r.id from instances r
                 where r.service = w.service and r.key = w.key and r.key_given = w.given offset 0) r
      where w.before = 0
        and (gone is null or not exists (select from unnest(i_group, i_id, i_after) d(g, id, after)
                                         where d.g = w.g and d.id = r.id and d.after = 0))
    union all
    select w.g, case when coalesce(r.version, 0) <> w.before then 1 else 2 end
      from unnest(c_group, c_id, c_before) w(g, id, before)
        left join lateral (select r.version from config_entries r where r.id = w.id offset 0) r on true
      where coalesce(r.version, 0) <> w.before or (w.before > 0 and w.id not in (select unnest(held_c)))
    union all
    select w.g, 1 from unnest(g_group, g_table, g_id, g_version) w(g, tab, id, version)
      where w.tab = 'instances'
        and coalesce((select r.version from instances r where r.id = w.id), 0) <> w.version
    union all
    select w.g, 1 from unnest(g_group, g_table, g_id, g_version) w(g, tab, id, version)
      where w.tab = 'config_entries'
        and coalesce((select r.version from config_entries r where r.id = w.id), 0) <> w.version
    union all
    select w.g, 1 from unnest(k_group, k_key) w(g, key)
      where (select k.at from idempotency_keys k where k.key = w.key) > clock_timestamp() - interval '24 hours'
  ), worst(g, what) as (select wrong.g, min(wrong.what) from wrong group by wrong.g)
  select array_agg(coalesce(w.what, 0)::smallint order by n.g) into result
    from generate_series(1, p_groups) n(g) left join worst w on w.g = n.g;

  -- the events of the groups that fit, numbered in the order of the batch
  select array_agg(n.rev order by n.o), max(n.rev) into rev, last from (
    select e.o, case when result[e.g] = 0 then top + count(*) filter (where result[e.g] = 0) over (order by e.o) end
    from unnest(e_group) with ordinality e(g, o)) n(o, rev);
  -- a request that found all as it asked has made no event, and is remembered all the same
  insert into idempotency_keys as k (key, fingerprint, changed, revision, answer, at)
    select w.key, w.fingerprint, w.changed, coalesce(rev[w.event], p_revision), w.answer, p_now
    from unnest(k_group, k_event, k_changed, k_key, k_fingerprint, k_answer)
      w(g, event, changed, key, fingerprint, answer)
    where result[w.g] = 0
    on conflict (key) do update set fingerprint = excluded.fingerprint, changed = excluded.changed,
      revision = excluded.revision, answer = excluded.answer, at = excluded.at;
  if last is null then
    return query select 'done', head.epoch, null::bigint, null::bigint, null::bytea, result;
    return;
  end if;
  -- Long before it is needed, and from time to time until then: somebody may be in the way.
  if last >= head.partitions_end or (last >= head.partitions_end - 1000000 and last / 10000 > top / 10000) then
    begin
      perform ensure_partitions(top + 1, last);
    exception
      when lock_not_available then
        if last >= head.partitions_end then
          raise;
        end if;
    end;
  end if;

  if gone is not null then
    gone := array(select w.id from unnest(i_group, i_id, i_after) w(g, id, after)
                  where w.after = 0 and result[w.g] = 0);
    delete from instances r where r.id = any(gone);
    delete from liveness l where l.instance = any(gone);
  end if;
  update instances r set version = w.after, revision = rev[w.event], status = w.status, failures = w.failures,
      health_changes = w.changes, spec = w.spec, updated_at = p_now
    from (
      select (select r.ctid from instances r where r.id = w.id) as place, w.*
      from unnest(i_group, i_id, i_before, i_after, i_event, i_status, i_failures, i_changes, i_spec)
        w(g, id, before, after, event, status, failures, changes, spec)
      where w.before > 0 and w.after > 0 and result[w.g] = 0 offset 0) w
    where r.ctid = w.place;
  insert into instances (id, service, key, key_given, version, revision, status, failures, health_changes, spec,
                         registered_at, updated_at)
    select w.id, w.service, w.key, w.given, w.after, rev[w.event], w.status, w.failures, w.changes, w.spec,
           w.registered, p_now
    from unnest(i_group, i_id, i_before, i_after, i_event, i_service, i_key, i_key_given, i_status, i_failures,
                i_changes, i_spec, i_registered)
      w(g, id, before, after, event, service, key, given, status, failures, changes, spec, registered)
    where w.before = 0 and w.after > 0 and result[w.g] = 0;

  update config_entries r set version = w.after, revision = rev[w.event], content = w.content, comment = w.comment,
      actor = w.actor, created_at = w.created, updated_at = p_now
    from (
      select (select r.ctid from config_entries r where r.id = w.id) as place, w.*
      from unnest(c_group, c_id, c_before, c_after, c_event, c_content, c_comment, c_actor, c_created)
        w(g, id, before, after, event, content, comment, actor, created)
      where w.before > 0 and result[w.g] = 0 offset 0) w
    where r.ctid = w.place;
  insert into config_entries (id, service, environment, version, revision, content, comment, actor, created_at,
                              updated_at)
    select w.id, w.service, w.environment, w.after, rev[w.event], w.content, w.comment, w.actor, w.created, p_now
    from unnest(c_group, c_id, c_before, c_after, c_event, c_service, c_environment, c_content, c_comment, c_actor,
                c_created)
      w(g, id, before, after, event, service, environment, content, comment, actor, created)
    where w.before = 0 and result[w.g] = 0;

  insert into events (revision, epoch, time, kind, service, instance, actor, origin, request_id, data)
    select rev[e.o], head.epoch, p_now, e.kind, e.service, e.instance, e.actor, e.origin, e.request, e.data
    from unnest(e_kind, e_service, e_instance, e_actor, e_origin, e_request, e_data) with ordinality
      e(kind, service, instance, actor, origin, request, data, o)
    where rev[e.o] is not null order by e.o;
  select string_agg(event_line(rev[e.o], head.epoch, p_now, e.kind, e.service, e.instance, e.actor, e.origin,
                               e.request, e.data), E'\n' order by e.o) into lines
    from unnest(e_kind, e_service, e_instance, e_actor, e_origin, e_request, e_data) with ordinality
      e(kind, service, instance, actor, origin, request, data, o)
    where rev[e.o] is not null;
  -- every version that a configuration went through in this batch, not only the last
  insert into config_versions (id, version, revision, content, comment, actor, created_at)
    select w.id, (e.data::json ->> 'version')::bigint, rev[e.o], nullif((e.data::json -> 'content')::text, 'null'),
           e.data::json ->> 'comment', e.actor, p_now
    from unnest(e_group, e_kind, e_service, e_actor, e_data) with ordinality e(g, kind, service, actor, data, o)
    join unnest(c_group, c_id, c_service, c_environment) w(g, id, service, environment)
      on w.g = e.g and w.service = e.service and w.environment = e.data::json ->> 'environment'
    where rev[e.o] is not null and e.kind in ('config_updated', 'config_deleted');

  new_hash := batch_hash(top_hash, top + 1, last, head.epoch, lines);
  insert into batches values (p_batch, head.epoch, top + 1, last, new_hash, result, p_replica, clock_timestamp());
  return query select 'done', head.epoch, top + 1, last, new_hash, result;
end $$;

-- Writes what liveness gathered since the last flush, and tells the other replicas. A flush that is repeated because
-- its answer was lost is known by its number and not counted twice. Returns whether it was new.
create function flush_liveness(
  p_replica uuid, p_flush bigint, p_instance uuid[], p_last_seen timestamptz[], p_last_check timestamptz[],
  p_latency_ms real[], p_output text[], p_load real[], p_failures bigint[], p_changes integer[]
) returns boolean
language plpgsql security definer set search_path = rollcall, pg_temp
-- as for append
set enable_seqscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
begin
  perform 1 from liveness_head where only_row for no key update;
  insert into replicas as r (id, generation, flush) values (p_replica, 0, p_flush)
    on conflict (id) do update set flush = p_flush where r.flush < p_flush;
  if not found then
    return false;
  end if;
  with written as (
    insert into liveness as l (instance, last_seen, last_check, latency_ms, output, load, failures, changes)
      select w.* from unnest(p_instance, p_last_seen, p_last_check, p_latency_ms, p_output, p_load, p_failures,
                             p_changes)
          w(instance, last_seen, last_check, latency_ms, output, load, failures, changes)
        where (select i.id from instances i where i.id = w.instance) is not null
        order by w.instance
      on conflict (instance) do update set
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
  insert into liveness_feed (seq, at, instance, last_seen, last_check, latency_ms, output, load, failures, changes)
    select coalesce((select max(f.seq) from liveness_feed f), 0) + 1, clock_timestamp(), array_agg(w.instance),
           array_agg(w.last_seen), array_agg(w.last_check), array_agg(w.latency_ms), array_agg(w.output),
           array_agg(w.load), array_agg(w.failures), array_agg(w.changes)
    from written w having count(*) > 0;
  -- the newest row stays, so that the numbers go on
  delete from liveness_feed f where f.at < clock_timestamp() - interval '1 minute'
    and f.seq < (select max(n.seq) from liveness_feed n);
  return true;
end $$;

-- Keys are kept for a day. A few at a time, so that no call lasts: returns how many they were.
create function forget_idempotency_keys() returns bigint
language sql security definer set search_path = rollcall, pg_temp as $$
  with old as (
    delete from idempotency_keys k using (
      select o.key from idempotency_keys o where o.at < clock_timestamp() - interval '24 hours'
      order by o.at limit 1000 for update skip locked) o
    where k.key = o.key returning 1)
  select count(*) from old
$$;

revoke all on all functions in schema rollcall from public;
grant execute on function same_server, meet_server, open_writer, raise_epoch, append, flush_liveness, forget_idempotency_keys, event_line,
  batch_hash to rollcall_app;

-- the migrator notes in the same transaction that this was done
set local search_path to default;
reset role;
