-- Who may do what in the team's registry. Once, by the database's administrator, in an empty database:
--
--     createdb fraudlab
--     psql -d fraudlab -v ON_ERROR_STOP=1 -f roles.sql
--     psql -d fraudlab -c '\password fraudlab_owner' -c '\password fraudlab_writer' -c '\password fraudlab_reader'
--
-- Then the owner makes MLflow's tables, with its name in tracking.toml: fraudlab models list

-- Makes the tables and upgrades them (mlflow db upgrade); nobody works with it every day.
CREATE ROLE fraudlab_owner LOGIN;
-- Retrains, registers, promotes.
CREATE ROLE fraudlab_writer LOGIN;
-- Lists, shows, reports, scores.
CREATE ROLE fraudlab_reader LOGIN;

DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format(
        'GRANT CONNECT ON DATABASE %I TO fraudlab_owner, fraudlab_writer, fraudlab_reader', current_database()
    );
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO fraudlab_owner;
GRANT USAGE ON SCHEMA public TO fraudlab_writer, fraudlab_reader;

-- Of every table that the owner will make.
ALTER DEFAULT PRIVILEGES FOR ROLE fraudlab_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO fraudlab_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE fraudlab_owner IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO fraudlab_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE fraudlab_owner IN SCHEMA public
    GRANT SELECT ON TABLES TO fraudlab_reader;

-- No statement of a hanging client holds the others up.
ALTER ROLE fraudlab_writer SET statement_timeout = '5min';
ALTER ROLE fraudlab_writer SET idle_in_transaction_session_timeout = '1min';
ALTER ROLE fraudlab_reader SET statement_timeout = '1min';
ALTER ROLE fraudlab_reader SET default_transaction_read_only = on;
