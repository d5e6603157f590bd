-- What the settings declare, by its key there and the instance whose settings they are; without the latter it is declared
-- no longer. A changed contact is still to be told to the CA; a changed intent waits for its first certificate.
ALTER TABLE providers ADD COLUMN declared_key TEXT;
ALTER TABLE providers ADD COLUMN declared_by TEXT;
ALTER TABLE providers ADD COLUMN contact_changed SMALLINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX providers_declared ON providers (declared_key) WHERE declared_key IS NOT NULL;

ALTER TABLE auto_certificates ADD COLUMN declared_key TEXT;
ALTER TABLE auto_certificates ADD COLUMN declared_by TEXT;
ALTER TABLE auto_certificates ADD COLUMN intent_changed SMALLINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX auto_certificates_declared ON auto_certificates (declared_key)
    WHERE declared_key IS NOT NULL AND deleted_at IS NULL;

-- One row for each auto-certificate at each delivery of each instance; the instance is empty for what is delivered once
-- per fleet. certificate_id is no foreign key: what was delivered may be deleted by now.
CREATE TABLE deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    auto_certificate_id TEXT NOT NULL REFERENCES auto_certificates (id),
    target TEXT NOT NULL,
    instance TEXT NOT NULL,
    label TEXT NOT NULL,
    settings TEXT NOT NULL,
    certificate_id TEXT,
    certificate_created_at BIGINT,
    certificate_not_after BIGINT,
    delivered_at BIGINT,
    receipt TEXT,
    trouble TEXT,
    runs BIGINT NOT NULL,
    wakes BIGINT NOT NULL,
    next_look BIGINT NOT NULL,
    lease_owner TEXT,
    lease_epoch BIGINT NOT NULL,
    lease_until BIGINT
);
CREATE UNIQUE INDEX deliveries_of_auto_certificate ON deliveries (auto_certificate_id, target, instance);
CREATE UNIQUE INDEX deliveries_labelled ON deliveries (target, instance, label);
CREATE INDEX deliveries_due ON deliveries (target, instance, next_look);
CREATE INDEX deliveries_leased ON deliveries (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX deliveries_by_look ON deliveries (next_look);
