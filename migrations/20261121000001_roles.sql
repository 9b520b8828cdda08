-- Two roles that nobody logs in as. rollcall_owner owns the tables and the functions that write them;
-- rollcall_app may read the tables and call those functions, and is what every connection of the service becomes
-- (SET ROLE). So no SQL that the service could be made to run changes a row past the log.
--
-- Roles belong to the whole server, not to a database: another database's migration may create them at this moment.
do $$
declare
  role_name text;
  is_new    boolean;
  is_super  boolean := (select rolsuper from pg_roles where rolname = current_user);
begin
  foreach role_name in array array['rollcall_owner', 'rollcall_app'] loop
    is_new := not exists (select from pg_roles where rolname = role_name);
    if is_new then
      begin
        execute format('create role %I nologin', role_name);
      exception
        when duplicate_object or unique_violation then null;
      end;
    end if;
    -- from PostgreSQL 16 on whoever creates a role is its member, and still may not take it on
    if (is_new and not is_super) or not pg_has_role(current_user, role_name, 'member') then
      begin
        execute format('grant %I to current_user', role_name);
      exception
        when unique_violation then null;
      end;
    end if;
  end loop;
end $$;

create schema rollcall authorization rollcall_owner;
