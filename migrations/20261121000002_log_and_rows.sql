-- The log (events, in batches chained by hash), the rows that it changes, and what guards both.
-- What could not be added to a log that has begun stands here from the first day: partitions by revision,
-- the chain, actor and origin, epochs, and privileges.
set local role rollcall_owner;
set local search_path = rollcall, pg_temp;

grant usage on schema rollcall to rollcall_app;

-- One row. Its lock orders all writers; it is hardly ever updated, because an update for each batch would leave
-- dead versions that an old snapshot keeps from being cleaned up.
create table log_head (
  only_row          boolean primary key default true check (only_row),
  log_id            uuid    not null,  -- of this log, wherever it is restored to
  system_identifier bigint  not null,  -- of the server that it was last written on
  timeline          integer not null,
  epoch             integer not null,
  floor             bigint  not null,  -- revisions of this epoch are greater
  partitions_end    bigint  not null   -- revisions from here on have no partition yet
);

-- One row for each transaction of the log. `hash` chains: it covers the hash before it and every event.
create table batches (
  batch    uuid primary key,
  epoch    integer     not null,
  rev_from bigint      not null,
  rev_to   bigint      not null unique,
  hash     bytea       not null,
  outcomes smallint[]  not null,  -- of each group: 0 written, 1 in conflict, 2 busy
  replica  uuid        not null,
  at       timestamptz not null
);

create table events (
  revision   bigint      not null primary key,
  epoch      integer     not null,
  time       timestamptz not null,
  kind       text        not null,
  service    text,
  instance   uuid,
  actor      text        not null,
  origin     text        not null,
  request_id text,
  data       text        not null  -- JSON, as it was hashed
) partition by range (revision);

-- A row has at most one health and one version. A key that the client gave and an address never match each other.
-- Identities compare by their bytes: an operating system that sorts differently after an upgrade breaks no index.
create table instances (
  id             uuid        primary key,
  service        text        not null collate "C",
  key            text        not null collate "C",
  key_given      boolean     not null,
  version        bigint      not null check (version >= 1),
  revision       bigint      not null,
  status         text        not null,
  failures       integer     not null,
  health_changes integer     not null,
  spec           text        not null,  -- JSON
  registered_at  timestamptz not null,
  updated_at     timestamptz not null,
  unique (service, key, key_given)
) with (fillfactor = 80);  -- most changes are of health, and touch no index where they find room on their page

-- content is null once the configuration is deleted: its versions go on.
create table config_entries (
  id          uuid        primary key,
  service     text        not null collate "C",
  environment text        not null collate "C",
  version     bigint      not null check (version >= 1),
  revision    bigint      not null,
  content     text,
  comment     text,
  actor       text        not null,
  created_at  timestamptz not null,
  updated_at  timestamptz not null,
  unique (service, environment)
);

create table config_versions (
  id         uuid        not null,
  version    bigint      not null,
  revision   bigint      not null,
  content    text,
  comment    text,
  actor      text        not null,
  created_at timestamptz not null,
  primary key (id, version)
);

-- What a request with an Idempotency-Key came to, so that its repetition is answered and not carried out again.
create table idempotency_keys (
  key         text        primary key collate "C",
  fingerprint bytea       not null,  -- of the request that used it
  changed     boolean     not null,  -- whether it made the event at `revision`
  revision    bigint      not null,
  answer      text        not null,  -- JSON
  at          timestamptz not null
);

create index idempotency_keys_by_age on idempotency_keys (at);

-- generation fences the packets of a writer's older connections; flush those of its liveness.
create table replicas (
  id         uuid        primary key,
  generation bigint      not null,
  flush      bigint      not null default 0,
  started_at timestamptz not null default clock_timestamp()
);

-- What changes all the time stays out of the log. Narrow and loosely filled, so that updates stay on their page.
create table liveness (
  instance   uuid        primary key,
  last_seen  timestamptz,
  last_check timestamptz,
  latency_ms real,
  output     text,
  load       real,
  failures   bigint      not null,  -- beyond the row's own count
  changes    integer     not null   -- the health_changes that the failures belong to
) with (fillfactor = 70);

-- The last minute of liveness, for the other replicas. Without gaps: the lock of liveness_head orders it.
create table liveness_head (
  only_row boolean primary key default true check (only_row)
);
create table liveness_feed (
  seq        bigint      primary key,
  at         timestamptz not null,
  instance   uuid[]        not null,
  last_seen  timestamptz[] not null,
  last_check timestamptz[] not null,
  latency_ms real[]        not null,
  output     text[]        not null,
  load       real[]        not null,
  failures   bigint[]      not null,
  changes    integer[]     not null
);
insert into liveness_head default values;

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '%.% is append-only', tg_table_schema, tg_table_name using errcode = 'insufficient_privilege';
end $$;

create trigger events_stay before update or delete on events
  for each row execute function refuse_change();
create trigger events_stay_all before truncate on events
  for each statement execute function refuse_change();
create trigger batches_stay before update or delete on batches
  for each row execute function refuse_change();
create trigger batches_stay_all before truncate on batches
  for each statement execute function refuse_change();

-- Makes the partitions that hold `from_revision` and some way beyond `to_revision`. Five million revisions each.
--
-- They are attached, not created as partitions: that would need the log for itself alone, and a reader who stays (a
-- dump, an open psql) would stop all writers. What attaching cannot go beside (ANALYZE, another DDL) it hardly waits
-- for: whoever calls holds the head.
create function ensure_partitions(from_revision bigint, to_revision bigint) returns void
language plpgsql set lock_timeout = '100ms' as $$
declare
  size constant bigint := 5000000;
  part bigint;
  name text;
begin
  for part in from_revision / size .. (to_revision + size / 2) / size loop
    name := format('events_%s', part);
    if to_regclass('rollcall.' || name) is null then
      execute format('create table rollcall.%I (like rollcall.events including all)', name);
      -- triggers for rows come with the partition; one for a statement does not
      execute format('create trigger events_stay_all before truncate on rollcall.%I
                      for each statement execute function rollcall.refuse_change()', name);
      execute format('alter table rollcall.events attach partition rollcall.%I for values from (%s) to (%s)',
                     name, part * size, (part + 1) * size);
    end if;
  end loop;
  update rollcall.log_head set partitions_end = ((to_revision + size / 2) / size + 1) * size;
end $$;

-- pg_control_checkpoint() tells of a promotion only after the next checkpoint; the name of the WAL file at once.
create function server_timeline() returns integer language sql stable as $$
  select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer
$$;

insert into log_head (log_id, system_identifier, timeline, epoch, floor, partitions_end)
  select gen_random_uuid(), system_identifier, server_timeline(), 1, 0, 0 from pg_control_system();
select ensure_partitions(1, 1);

-- What the chain says of one event. The body is bound to what it names now, whatever the caller's search path says.
create function event_line(revision bigint, epoch integer, happened timestamptz, kind text, service text,
                           instance uuid, actor text, origin text, request_id text, data text)
returns text language sql stable
return json_build_array(revision, epoch, (extract(epoch from happened) * 1000000)::bigint, kind, service,
                        instance, actor, origin, request_id, data)::text;

create function batch_hash(before bytea, rev_from bigint, rev_to bigint, epoch integer, lines text)
returns bytea language sql stable
return sha256(coalesce(before, '\x'::bytea) || int8send(rev_from) || int8send(rev_to) || int4send(epoch)
              || sha256(convert_to(lines, 'UTF8')));

grant select on all tables in schema rollcall to rollcall_app;
revoke all on all functions in schema rollcall from public;

-- the migrator notes in the same transaction that this was done
set local search_path to default;
reset role;
