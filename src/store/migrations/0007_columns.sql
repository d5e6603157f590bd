-- What queries ask for, which was only in texts for people and in documents before. held_kind says what an order is held
-- for: 'provider-down', or the kind of the limit. Triggers keep these columns, so that they are right also where another
-- release, which knows nothing of them, writes beside this one.
ALTER TABLE auto_certificates ADD COLUMN held_kind TEXT;
ALTER TABLE auto_certificates ADD COLUMN trouble_disposition TEXT;
ALTER TABLE providers ADD COLUMN account_fate TEXT;

@derived_columns

UPDATE auto_certificates SET held_by = held_by WHERE held_by IS NOT NULL;
UPDATE auto_certificates SET trouble = trouble WHERE trouble IS NOT NULL;
UPDATE providers SET account_note = account_note WHERE account_note IS NOT NULL;

DROP INDEX auto_certificates_held;
CREATE INDEX auto_certificates_held ON auto_certificates (provider_id, held_kind) WHERE held_kind IS NOT NULL;
CREATE INDEX auto_certificates_in_trouble ON auto_certificates (provider_id, trouble_disposition)
    WHERE trouble_disposition IS NOT NULL;
