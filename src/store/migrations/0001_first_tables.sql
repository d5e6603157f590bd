-- One dialect for SQLite and PostgreSQL: ids as text, moments as microseconds since the epoch, flags as 0 or 1,
-- documents as JSON text; @blob is the only word that differs. Applied migrations never change.

-- Rows that a transaction changes to keep others out until it ends.
CREATE TABLE locks (
    id TEXT NOT NULL PRIMARY KEY,
    taken BIGINT NOT NULL
);
INSERT INTO locks (id, taken) VALUES ('auto-certificates', 0);

-- Single values; key-check tells whether the key ring is the right one.
CREATE TABLE facts (
    id TEXT NOT NULL PRIMARY KEY,
    value @blob NOT NULL
);

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    secret_hash @blob NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX tokens_in_order ON tokens (created_at, id);
CREATE INDEX tokens_by_name ON tokens (name, created_at, id);

CREATE TABLE providers (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    server TEXT NOT NULL,
    eab_key_id TEXT,
    eab_key_secret @blob,
    account_url TEXT,
    account_credentials @blob,
    pending_credentials @blob,
    trouble TEXT,
    next_look BIGINT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_by_id TEXT NOT NULL,
    modified_at BIGINT NOT NULL,
    modified_by TEXT NOT NULL,
    modified_by_id TEXT NOT NULL,
    lease_owner TEXT,
    lease_epoch BIGINT NOT NULL,
    lease_until BIGINT
);
CREATE INDEX providers_in_order ON providers (created_at, id);
CREATE INDEX providers_due ON providers (next_look);
CREATE INDEX providers_leased ON providers (lease_owner) WHERE lease_owner IS NOT NULL;

-- provider_id is no foreign key: what is deleted but still cleaning up does not keep its provider.
CREATE TABLE auto_certificates (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    common_name TEXT NOT NULL,
    common_name_form TEXT NOT NULL,
    key_algorithm TEXT NOT NULL,
    subject_alternative_names TEXT NOT NULL,
    last_issued BIGINT,
    trouble TEXT,
    renewal_requested SMALLINT NOT NULL,
    deleted_at BIGINT,
    runs BIGINT NOT NULL,
    wakes BIGINT NOT NULL,
    next_look BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_by_id TEXT NOT NULL,
    modified_at BIGINT NOT NULL,
    modified_by TEXT NOT NULL,
    modified_by_id TEXT NOT NULL,
    lease_owner TEXT,
    lease_epoch BIGINT NOT NULL,
    lease_until BIGINT
);
CREATE INDEX auto_certificates_in_order ON auto_certificates (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX auto_certificates_by_form ON auto_certificates (common_name_form, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX auto_certificates_by_name ON auto_certificates (name) WHERE deleted_at IS NULL;
CREATE INDEX auto_certificates_by_provider ON auto_certificates (provider_id) WHERE deleted_at IS NULL;
CREATE INDEX auto_certificates_due ON auto_certificates (next_look);
CREATE INDEX auto_certificates_leased ON auto_certificates (lease_owner) WHERE lease_owner IS NOT NULL;

-- auto_certificate_id is no foreign key: certificates outlive what they were issued for.
CREATE TABLE certificates (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    auto_certificate_id TEXT,
    common_name TEXT NOT NULL,
    common_name_form TEXT NOT NULL,
    certificate TEXT NOT NULL,
    chain TEXT NOT NULL,
    private_key @blob NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_by_id TEXT NOT NULL,
    modified_at BIGINT NOT NULL,
    modified_by TEXT NOT NULL,
    modified_by_id TEXT NOT NULL
);
CREATE INDEX certificates_in_order ON certificates (created_at, id);
CREATE INDEX certificates_by_form ON certificates (common_name_form, created_at, id);
CREATE INDEX certificates_issued ON certificates (auto_certificate_id, created_at, id) WHERE auto_certificate_id IS NOT NULL;
CREATE INDEX certificates_expiring ON certificates (not_after) WHERE auto_certificate_id IS NOT NULL;

CREATE TABLE attempts (
    id TEXT NOT NULL PRIMARY KEY,
    auto_certificate_id TEXT NOT NULL REFERENCES auto_certificates (id),
    provider_id TEXT NOT NULL,
    names TEXT NOT NULL,
    key_algorithm TEXT NOT NULL,
    reason TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    stage TEXT NOT NULL,
    order_url TEXT,
    private_key @blob,
    csr @blob,
    chain TEXT,
    certificate_id TEXT,
    ended_at BIGINT,
    failure TEXT
);
CREATE UNIQUE INDEX attempts_open ON attempts (auto_certificate_id) WHERE ended_at IS NULL;
CREATE INDEX attempts_by_auto_certificate ON attempts (auto_certificate_id);

CREATE TABLE challenge_records (
    id TEXT NOT NULL PRIMARY KEY,
    auto_certificate_id TEXT NOT NULL REFERENCES auto_certificates (id),
    attempt_id TEXT NOT NULL REFERENCES attempts (id),
    adapter TEXT NOT NULL,
    zone_id TEXT NOT NULL,
    record_id TEXT,
    name TEXT NOT NULL,
    content TEXT NOT NULL,
    removal_tries BIGINT NOT NULL,
    next_try BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX challenge_records_by_auto_certificate ON challenge_records (auto_certificate_id, created_at, id);
CREATE INDEX challenge_records_by_attempt ON challenge_records (attempt_id);
