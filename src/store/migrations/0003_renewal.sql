-- Who issued a certificate, and by which directory, which its provider may have changed since; absent for what was carried
-- in or issued by an older version: then its auto-certificate's provider did. What the CA says about its renewal (RFC
-- 9773), and how it was revoked, are documents.
ALTER TABLE certificates ADD COLUMN provider_id TEXT;
ALTER TABLE certificates ADD COLUMN server TEXT;
ALTER TABLE certificates ADD COLUMN renewal_info TEXT;
ALTER TABLE certificates ADD COLUMN revocation TEXT;

-- When a revocation that the CA has not carried out is looked at; whoever claims it puts it off.
ALTER TABLE certificates ADD COLUMN revocation_look BIGINT;
CREATE INDEX certificates_to_revoke ON certificates (revocation_look) WHERE revocation_look IS NOT NULL;

-- A hold keeps an order back for its provider's sake, until a moment and for a reason.
ALTER TABLE auto_certificates ADD COLUMN profile TEXT;
ALTER TABLE auto_certificates ADD COLUMN held_until BIGINT;
ALTER TABLE auto_certificates ADD COLUMN held_by TEXT;
CREATE INDEX auto_certificates_held ON auto_certificates (provider_id, held_by) WHERE held_by IS NOT NULL;

ALTER TABLE attempts ADD COLUMN profile TEXT;
ALTER TABLE attempts ADD COLUMN replaces TEXT;

-- fallbacks holds ids of other providers, in their order. The breaker tells since when the provider is down. A rollover
-- that was begun keeps its new key until the CA knows it; the note tells what became of an account.
ALTER TABLE providers ADD COLUMN profile TEXT;
ALTER TABLE providers ADD COLUMN fallbacks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE providers ADD COLUMN breaker TEXT;
ALTER TABLE providers ADD COLUMN rollover_credentials @blob;
ALTER TABLE providers ADD COLUMN account_note TEXT;

-- What counts against a CA's limits: one moment tells how full a bucket is. The id is a digest of
-- scope, bucket and subject.
CREATE TABLE ledger (
    id TEXT NOT NULL PRIMARY KEY,
    scope TEXT NOT NULL,
    bucket TEXT NOT NULL,
    subject TEXT NOT NULL,
    settled_at BIGINT NOT NULL
);
CREATE INDEX ledger_by_scope ON ledger (scope, settled_at);
CREATE INDEX ledger_settled ON ledger (settled_at);

-- Keys that are known to others, by the SHA-256 of their public half: never to be used again.
CREATE TABLE compromised_keys (
    id TEXT NOT NULL PRIMARY KEY,
    noted_at BIGINT NOT NULL
);
