-- An append that costs less: fewer statements where a batch only adds rows, and a hash that is taken of the events by
-- column, as they are sent, and not of each of them as JSON.
--
-- Older releases go on beside newer ones. Those that verify the chain know the first form only, and take batches that
-- were written meanwhile for broken.
set local role rollcall_owner;
set local search_path = rollcall, pg_temp;

-- The chain's second form. What is sent for an array tells its type, its length, and where it has nulls and where its
-- elements end, so that no two batches have one text. Texts are sent in the encoding of the client. A hash of this form
-- begins with its number, one of the first has nothing but its 32 bytes: no column needs to tell, for whose making all
-- readers of the log would have to wait.
create function batch_hash_by_column(
  before bytea, rev_from bigint, rev_to bigint, epoch integer, revisions bigint[], epochs integer[],
  times timestamptz[], kinds text[], services text[], instances uuid[], actors text[], origins text[],
  requests text[], data text[]
) returns bytea
language plpgsql stable set search_path = rollcall, pg_temp set client_encoding = 'UTF8' as $$
begin
  return '\x02'::bytea || sha256(
    coalesce(before, '\x'::bytea) || int8send(rev_from) || int8send(rev_to) || int4send(epoch)
    || array_send(revisions) || array_send(epochs) || array_send(times) || array_send(kinds) || array_send(services)
    || array_send(instances) || array_send(actors) || array_send(origins) || array_send(requests)
    || array_send(data));
end $$;

-- What the hash of a batch must be for what its events say now; null where there are not as many as there should be.
-- Between the epochs there is nothing: what comes after the batch before it belongs to it.
create function batch_hash_again(batch batches, before bytea, previous bigint) returns bytea
language sql stable
return case octet_length(batch.hash)
  when 32 then (
    select batch_hash(before, batch.rev_from, batch.rev_to, batch.epoch,
             string_agg(event_line(e.revision, e.epoch, e.time, e.kind, e.service, e.instance, e.actor, e.origin,
                                   e.request_id, e.data), E'\n' order by e.revision))
    from events e where e.revision > previous and e.revision <= batch.rev_to
    having count(*) = batch.rev_to - batch.rev_from + 1)
  when 33 then (
    select batch_hash_by_column(before, batch.rev_from, batch.rev_to, batch.epoch,
             array_agg(e.revision order by e.revision), array_agg(e.epoch order by e.revision),
             array_agg(e.time order by e.revision), array_agg(e.kind order by e.revision),
             array_agg(e.service order by e.revision), array_agg(e.instance order by e.revision),
             array_agg(e.actor order by e.revision), array_agg(e.origin order by e.revision),
             array_agg(e.request_id order by e.revision), array_agg(e.data order by e.revision))
    from events e where e.revision > previous and e.revision <= batch.rev_to
    having count(*) = batch.rev_to - batch.rev_from + 1)
end;

-- As before; see 20261121000003_append.sql for what it promises. One of which nothing is given may be null.
create or replace function append(
  p_batch uuid, p_replica uuid, p_generation bigint, p_epoch integer, p_revision bigint, p_anchor bytea,
  p_now timestamptz, p_groups integer,
  i_group integer[], i_id uuid[], i_before bigint[], i_after bigint[], i_event integer[], i_service text[],
  i_key text[], i_key_given boolean[], i_status text[], i_failures integer[], i_changes integer[], i_spec text[],
  i_registered timestamptz[], i_state text[],
  c_group integer[], c_id uuid[], c_before bigint[], c_after bigint[], c_event integer[], c_service text[],
  c_environment text[], c_content text[], c_comment text[], c_actor text[], c_created timestamptz[],
  g_group integer[], g_table text[], g_id uuid[], g_version bigint[],
  e_group integer[], e_kind text[], e_service text[], e_instance uuid[], e_actor text[], e_origin text[],
  e_request text[], e_data text[],
  k_group integer[], k_event integer[], k_changed boolean[], k_key text[], k_fingerprint bytea[], k_answer text[],
  t_group integer[], t_id uuid[], t_before bigint[], t_after bigint[], t_event integer[], t_name text[],
  t_policies text[], t_digest bytea[], t_expires timestamptz[], t_actor text[],
  p_careful boolean,
  x_group integer[], x_instance uuid[], x_check text[], x_cutoff timestamptz[],
  s_group integer, s_version bigint
) returns table (state text, epoch integer, rev_from bigint, rev_to bigint, hash bytea, outcomes smallint[])
language plpgsql security definer
set search_path = rollcall, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  head      log_head;
  known     batches;
  bounded   text;
  was_known boolean;
  anchored  boolean;
  newest    bigint;  -- the generation of this writer
  top       bigint;
  top_hash  bytea;
  instances_n constant integer := cardinality(i_id);
  configs_n   constant integer := cardinality(c_id);
  tokens_n    constant integer := cardinality(t_id);
  events_n    constant integer := cardinality(e_group);
  creates   constant boolean := 0 = any(i_before);
  changes   constant boolean := 0 < any(i_before);
  removes   constant boolean := 0 = any(i_after);
  stateful  constant boolean := i_state is not null;
  gone      uuid[];
  held_l    uuid[];
  held      uuid[];
  -- groups in conflict, groups with a row that a stranger holds, and groups that were overtaken
  lost      integer[] := '{}';
  busy      integer[] := '{}';
  late      integer[] := '{}';
  result    smallint[];
  rev       bigint[];
  last      bigint;
  new_hash  bytea;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'append needs READ COMMITTED: a snapshot from before the head lock would be stale';
  end if;
  select * into head from log_head where only_row for no key update;
  -- From here on hardly anybody is waited for: all other writers wait as well. Where a stranger is in the way all the
  -- same (his row with the same identity is not committed yet, or he makes an index), the batch fails.
  bounded := set_config('lock_timeout', '500ms', true);

  -- what is asked for every batch, at once: each statement has its price
  select exists (select from batches b where b.batch = p_batch),
         (select r.generation from replicas r where r.id = p_replica), n.rev_to, n.hash
    into was_known, newest, top, top_hash
    from (select) w left join lateral (select b.rev_to, b.hash from batches b order by b.rev_to desc limit 1) n on true;
  if was_known then
    select * into known from batches b where b.batch = p_batch;
    return query select 'known', known.epoch, known.rev_from, known.rev_to, known.hash, known.outcomes;
    return;
  end if;
  if p_generation is distinct from newest then
    return query select 'superseded', head.epoch, null::bigint, null::bigint, null::bytea, null::smallint[];
    return;
  end if;
  if head.epoch <> p_epoch then
    return query select 'epoch', head.epoch, null::bigint, null::bigint, null::bytea, null::smallint[];
    return;
  end if;
  anchored := p_revision = 0 or (p_revision, p_anchor) is not distinct from (top, top_hash);
  if not anchored and not exists (select from batches b where b.rev_to = p_revision and b.hash = p_anchor) then
    return query select 'forked', head.epoch, null::bigint, null::bigint, null::bytea, null::smallint[];
    return;
  end if;
  top := greatest(coalesce(top, 0), head.floor);

  -- new rows rest on nothing but the table's own rule of one row an identity, unless it is to be looked up first
  if changes or removes or p_careful then
    held := array(
      select r.id from (
          select i_id[n] as id from generate_series(1, instances_n) n
          where i_before[n] > 0 and i_after[n] > 0 order by 1) w,
        lateral (select r.id from instances r where r.id = w.id for no key update skip locked) r);
    if removes then
      -- What is to go must go at once, with what liveness knows of it. A flush writes the liveness of the instances that
      -- it sees, so that none may be under way: its rows would stay behind.
      perform 1 from liveness_head where only_row for no key update;
      gone := array(select i_id[n] from generate_series(1, instances_n) n where i_after[n] = 0 order by 1);
      held_l := array(
        select l.instance from unnest(gone) w(id),
          lateral (select l.instance from liveness l where l.instance = w.id for update skip locked) l);
      held := held || array(
        select r.id from unnest(gone) w(id),
          lateral (select r.id from instances r where r.id = w.id for update skip locked) r
        where cardinality(array_positions(held_l, r.id)) = (select count(*) from liveness l where l.instance = r.id));
    end if;
    lost := array(
      select i_group[n] from generate_series(1, instances_n) n
      where (i_before[n] > 0 or p_careful)
        and coalesce((select r.version from instances r where r.id = i_id[n]), 0) <> i_before[n]);
    if creates and (p_careful or removes) then
      lost := lost || array(
        select i_group[n] from generate_series(1, instances_n) n
        where i_before[n] = 0 and (
          select r.id from instances r
          where r.service = i_service[n] and r.key = i_key[n] and r.key_given = i_key_given[n]
            and (gone is null or not exists (
              select from unnest(i_group, i_id, i_after) d(g, id, after)
              where d.g = i_group[n] and d.id = r.id and d.after = 0))) is not null);
    end if;
    if cardinality(held) < (select count(*) from unnest(i_before) b where b > 0) then
      busy := array(
        select i_group[n] from generate_series(1, instances_n) n
        where i_before[n] > 0 and i_id[n] not in (select unnest(held)));
    end if;
  end if;
  if configs_n > 0 then
    held := array(
      select r.id from (select w.id from unnest(c_id) w(id) order by w.id) w,
        lateral (select r.id from config_entries r where r.id = w.id for no key update skip locked) r);
    lost := lost || array(
      select c_group[n] from generate_series(1, configs_n) n
      where coalesce((select r.version from config_entries r where r.id = c_id[n]), 0) <> c_before[n]);
    busy := busy || array(
      select c_group[n] from generate_series(1, configs_n) n
      where c_before[n] > 0 and c_id[n] not in (select unnest(held)));
  end if;
  if tokens_n > 0 then
    held := array(
      select r.id from (
          select t_id[n] as id from generate_series(1, tokens_n) n where t_before[n] > 0 order by 1) w,
        lateral (select r.id from tokens r where r.id = w.id for update skip locked) r);
    lost := lost || array(
      select t_group[n] from generate_series(1, tokens_n) n
      where coalesce((select r.version from tokens r where r.id = t_id[n]), 0) <> t_before[n]);
    busy := busy || array(
      select t_group[n] from generate_series(1, tokens_n) n
      where t_before[n] > 0 and t_id[n] not in (select unnest(held)));
  end if;
  if cardinality(g_group) > 0 then
    lost := lost || array(
      select w.g from unnest(g_group, g_table, g_id, g_version) w(g, tab, id, version)
      where case w.tab
          when 'instances' then
            coalesce((select r.version from instances r where r.id = w.id), 0) <> w.version
          when 'config_entries' then
            coalesce((select r.version from config_entries r where r.id = w.id), 0) <> w.version
          when 'tokens' then
            coalesce((select r.version from tokens r where r.id = w.id), 0) <> w.version
        end);
  end if;
  if cardinality(k_group) > 0 then
    lost := lost || array(
      select w.g from unnest(k_group, k_key) w(g, key)
      where (select k.at from idempotency_keys k where k.key = w.key) > clock_timestamp() - interval '24 hours');
  end if;

  if cardinality(x_group) > 0 then
    -- A flush that is under way may have heard of them; where it is not soon over, others do not wait for that.
    perform 1 from liveness_head where only_row for no key update skip locked;
    late := array(
      select x_group[n] from generate_series(1, cardinality(x_group)) n
      where (select l.last_check from liveness l where l.instance = x_instance[n] and l.check_id = x_check[n])
            > x_cutoff[n]);
  end if;
  if s_group is not null and s_version is distinct from (select s.version from sweep s where s.only_row) then
    late := late || s_group;
  end if;

  -- the events of the groups that fit, numbered in the order of the batch
  if lost = '{}' and busy = '{}' and late = '{}' then
    result := array_fill(0::smallint, array[p_groups]);
    rev := array(select top + n from generate_series(1, events_n) n);
    last := case when events_n > 0 then top + events_n end;
  else
    result := array(
      select case when n in (select unnest(late)) then 3 when n in (select unnest(lost)) then 1
                  when n in (select unnest(busy)) then 2 else 0 end::smallint
      from generate_series(1, p_groups) n order by n);
    select array_agg(n.rev order by n.o), max(n.rev) into rev, last from (
      select e.o, case when result[e.g] = 0 then top + count(*) filter (where result[e.g] = 0) over (order by e.o) end
      from unnest(e_group) with ordinality e(g, o)) n(o, rev);
  end if;
  -- a request that found all as it asked has made no event, and is remembered all the same
  if cardinality(k_group) > 0 then
    insert into idempotency_keys as k (key, fingerprint, changed, revision, answer, at)
      select w.key, w.fingerprint, w.changed, coalesce(rev[w.event], p_revision), w.answer, p_now
      from unnest(k_group, k_event, k_changed, k_key, k_fingerprint, k_answer)
        w(g, event, changed, key, fingerprint, answer)
      where result[w.g] = 0
      on conflict (key) do update set fingerprint = excluded.fingerprint, changed = excluded.changed,
        revision = excluded.revision, answer = excluded.answer, at = excluded.at;
  end if;
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

  if s_group is not null and result[s_group] = 0 then
    update sweep s set version = s.version + 1, removed_at = clock_timestamp() where s.only_row;
  end if;
  if removes then
    gone := array(select i_id[n] from generate_series(1, instances_n) n
                  where i_after[n] = 0 and result[i_group[n]] = 0);
    delete from instances r where r.id = any(gone);
    delete from liveness l where l.instance = any(gone);
  end if;
  if changes then
    update instances r set version = i_after[w.n], revision = rev[i_event[w.n]], status = i_status[w.n],
        failures = i_failures[w.n], health_changes = i_changes[w.n], spec = i_spec[w.n],
        state = case when stateful then i_state[w.n] else r.state end, updated_at = p_now
      from (
        select (select r.ctid from instances r where r.id = i_id[n]) as place, n
        from generate_series(1, instances_n) n
        where i_before[n] > 0 and i_after[n] > 0 and result[i_group[n]] = 0 offset 0) w
      where r.ctid = w.place;
  end if;
  if creates then
    insert into instances (id, service, key, key_given, version, revision, status, failures, health_changes, spec,
                           state, registered_at, updated_at)
      select i_id[n], i_service[n], i_key[n], i_key_given[n], i_after[n], rev[i_event[n]], i_status[n],
             i_failures[n], i_changes[n], i_spec[n], i_state[n], i_registered[n], p_now
      from generate_series(1, instances_n) n
      where i_before[n] = 0 and i_after[n] > 0 and result[i_group[n]] = 0;
  end if;
  if configs_n > 0 then
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
  end if;

  if tokens_n > 0 then
    delete from tokens r where r.id = any(array(
      select t_id[n] from generate_series(1, tokens_n) n where t_after[n] = 0 and result[t_group[n]] = 0));
    insert into tokens (id, version, revision, name, policies, digest, actor, created_at, expires_at)
      select t_id[n], t_after[n], rev[t_event[n]], t_name[n], t_policies[n], t_digest[n], t_actor[n], p_now, t_expires[n]
      from generate_series(1, tokens_n) n where t_before[n] = 0 and t_after[n] > 0 and result[t_group[n]] = 0;
  end if;

  insert into events (revision, epoch, time, kind, service, instance, actor, origin, request_id, data)
    select rev[n], head.epoch, p_now, e_kind[n], e_service[n], e_instance[n], e_actor[n], e_origin[n], e_request[n],
           e_data[n]
    from generate_series(1, events_n) n where rev[n] is not null;
  if configs_n > 0 then
    -- every version that a configuration went through in this batch, not only the last
    insert into config_versions (id, version, revision, content, comment, actor, created_at)
      select w.id, (e.data::json ->> 'version')::bigint, rev[e.o], nullif((e.data::json -> 'content')::text, 'null'),
             e.data::json ->> 'comment', e.actor, p_now
      from unnest(e_group, e_kind, e_service, e_actor, e_data) with ordinality e(g, kind, service, actor, data, o)
      join unnest(c_group, c_id, c_service, c_environment) w(g, id, service, environment)
        on w.g = e.g and w.service = e.service and w.environment = e.data::json ->> 'environment'
      where rev[e.o] is not null and e.kind in ('config_updated', 'config_deleted');
  end if;

  -- the columns as they were given are those that were written, unless they are longer or begin elsewhere
  if events_n <> any(array[cardinality(e_kind), cardinality(e_service), cardinality(e_instance), cardinality(e_actor),
                           cardinality(e_origin), cardinality(e_request), cardinality(e_data)])
     or 1 <> any(array[array_lower(e_kind, 1), array_lower(e_service, 1), array_lower(e_instance, 1),
                       array_lower(e_actor, 1), array_lower(e_origin, 1), array_lower(e_request, 1),
                       array_lower(e_data, 1)]) then
    raise exception 'the columns of the events are not of one length, or do not begin at 1';
  end if;
  if last = top + events_n then
    new_hash := batch_hash_by_column(top_hash, top + 1, last, head.epoch, rev, array_fill(head.epoch, array[events_n]),
                           array_fill(p_now, array[events_n]), e_kind, e_service, e_instance, e_actor, e_origin,
                           e_request, e_data);
  else
    select batch_hash_by_column(top_hash, top + 1, last, head.epoch, array_agg(rev[n] order by n), array_agg(head.epoch),
                      array_agg(p_now), array_agg(e_kind[n] order by n), array_agg(e_service[n] order by n),
                      array_agg(e_instance[n] order by n), array_agg(e_actor[n] order by n),
                      array_agg(e_origin[n] order by n), array_agg(e_request[n] order by n),
                      array_agg(e_data[n] order by n))
      into new_hash
      from generate_series(1, events_n) n where rev[n] is not null;
  end if;
  insert into batches values (p_batch, head.epoch, top + 1, last, new_hash, result, p_replica, clock_timestamp());
  return query select 'done', head.epoch, top + 1, last, new_hash, result;
end $$;

revoke all on all functions in schema rollcall from public;
grant execute on function batch_hash_by_column(
    bytea, bigint, bigint, integer, bigint[], integer[], timestamptz[], text[], text[], uuid[], text[], text[], text[],
    text[]
  ), batch_hash_again(batches, bytea, bigint) to rollcall_app;

set local search_path to default;
reset role;
