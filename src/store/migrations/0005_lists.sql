-- What lists are narrowed by, and counted. Triggers keep it, so that it is right also where another release, which knows
-- nothing of it, writes beside this one.
--
-- newest_not_after is the end of the newest issued certificate, absent where there is none. needs_person tells that the
-- trouble waits for a person; failed that a provider's account is refused, or was deactivated.
ALTER TABLE auto_certificates ADD COLUMN newest_not_after BIGINT;
ALTER TABLE auto_certificates ADD COLUMN needs_person SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE providers ADD COLUMN failed SMALLINT NOT NULL DEFAULT 0;

-- How many rows a table has that are there for clients, and how many of them clients made: no settings declare them. Of
-- certificates only those are counted that were uploaded: one count of all would have issuances wait for each other.
CREATE TABLE totals (
    id TEXT NOT NULL PRIMARY KEY,
    present BIGINT NOT NULL,
    of_clients BIGINT NOT NULL
);

@triggers

-- The triggers keep others from writing until this is committed, so that none is missed.
INSERT INTO totals (id, present, of_clients)
    SELECT 'providers', COUNT(*), COUNT(CASE WHEN declared_by IS NULL THEN 1 END) FROM providers;
INSERT INTO totals (id, present, of_clients)
    SELECT 'auto_certificates', COUNT(*), COUNT(CASE WHEN declared_by IS NULL THEN 1 END) FROM auto_certificates
    WHERE deleted_at IS NULL;
INSERT INTO totals (id, present, of_clients)
    SELECT 'certificates', COUNT(*), COUNT(*) FROM certificates WHERE auto_certificate_id IS NULL;
UPDATE auto_certificates SET newest_not_after =
    (SELECT c.not_after FROM certificates c WHERE c.auto_certificate_id = auto_certificates.id
     ORDER BY c.created_at DESC, c.id DESC LIMIT 1);
UPDATE auto_certificates SET trouble = trouble WHERE trouble IS NOT NULL;
UPDATE providers SET trouble = trouble WHERE trouble IS NOT NULL OR account_note IS NOT NULL;

DROP INDEX auto_certificates_by_name;
DROP INDEX auto_certificates_by_provider;
CREATE INDEX auto_certificates_by_name ON auto_certificates (name, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX auto_certificates_by_provider ON auto_certificates (provider_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX auto_certificates_by_key_algorithm ON auto_certificates (key_algorithm, created_at, id)
    WHERE deleted_at IS NULL;
-- All that a list by state asks of most rows: SQLite wants deleted_at among it, too.
CREATE INDEX auto_certificates_by_state ON auto_certificates (created_at, id, newest_not_after, needs_person, deleted_at)
    WHERE deleted_at IS NULL;
CREATE INDEX certificates_by_name ON certificates (name, created_at, id);
CREATE INDEX providers_by_name ON providers (name, created_at, id);
CREATE INDEX providers_by_state ON providers (failed, created_at, id);
