-- What the last rehearsal of an auto-certificate found, a document, and when is looked whether the next one is due.
ALTER TABLE auto_certificates ADD COLUMN rehearsal TEXT;
ALTER TABLE auto_certificates ADD COLUMN rehearse_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX auto_certificates_to_rehearse ON auto_certificates (rehearse_at);

-- The journal also names records that belong to no attempt: the canaries of `autocertd doctor`. Whether another entry
-- needs the same record, and what the own name server answers, is asked by adapter and name. Until `removing_until` a
-- removal may be under way.
CREATE TABLE journal (
    id TEXT NOT NULL PRIMARY KEY,
    auto_certificate_id TEXT REFERENCES auto_certificates (id),
    attempt_id TEXT REFERENCES attempts (id),
    adapter TEXT NOT NULL,
    zone_id TEXT NOT NULL,
    record_id TEXT,
    name TEXT NOT NULL,
    content TEXT NOT NULL,
    removal_tries BIGINT NOT NULL,
    next_try BIGINT NOT NULL,
    removing_until BIGINT,
    created_at BIGINT NOT NULL
);
INSERT INTO journal (id, auto_certificate_id, attempt_id, adapter, zone_id, record_id, name, content, removal_tries,
    next_try, created_at)
    SELECT id, auto_certificate_id, attempt_id, adapter, zone_id, record_id, name, content, removal_tries, next_try,
    created_at FROM challenge_records;
DROP TABLE challenge_records;
ALTER TABLE journal RENAME TO challenge_records;
CREATE INDEX challenge_records_by_auto_certificate ON challenge_records (auto_certificate_id, created_at, id);
CREATE INDEX challenge_records_by_attempt ON challenge_records (attempt_id);
CREATE INDEX challenge_records_by_name ON challenge_records (adapter, name);
CREATE INDEX challenge_records_by_next_try ON challenge_records (next_try);

-- Standing records of dns-persist-01, so that a renewal needs no look at the DNS. place is where the aliases of its name
-- lead; place, adapter and zone are absent where a person made the record; seen_at where it was not seen, or the CA says that it is not there.
CREATE TABLE standing_records (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    content TEXT NOT NULL,
    adapter TEXT,
    zone_id TEXT,
    place TEXT,
    record_id TEXT,
    seen_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX standing_records_by_name ON standing_records (name, content);
CREATE INDEX standing_records_by_place ON standing_records (adapter, place);
