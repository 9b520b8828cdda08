-- Two roles that nobody logs in as. rollcall_owner owns the tables and the functions that write them;
-- rollcall_app may read the tables and call those functions, and is what every connection of the service becomes
-- (SET ROLE). So no SQL that the service could be made to run changes a row past the log.
--
-- Roles belong to the whole server, not to a database: another database's migration may create them at this moment.
do $$
declare
  role_name text;
  -- from PostgreSQL 16 on whoever creates a role is its member, and still may not take it on
  needed    constant text :=
    case when current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end;
begin
  -- texts are kept as they were sent, and hashed as UTF-8
  if current_setting('server_encoding') <> 'UTF8' then
    raise exception 'the database has the encoding %, and rollcall needs UTF8', current_setting('server_encoding');
  end if;
  foreach role_name in array array['rollcall_owner', 'rollcall_app'] loop
    if not exists (select from pg_roles where rolname = role_name) then
      begin
        execute format('create role %I nologin', role_name);
      exception
        when duplicate_object or unique_violation then null;
      end;
    end if;
    if not pg_has_role(current_user, role_name, needed) then
      begin
        execute format('grant %I to current_user', role_name);
      exception
        when unique_violation then null;
      end;
    end if;
  end loop;
end $$;

create schema rollcall authorization rollcall_owner;
