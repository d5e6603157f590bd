-- What each instance's clock showed, and how long it had run by then: readings is a document, pairs of microseconds of
-- running time and of what was shown. written_at is by the database's time.
CREATE TABLE clock_records (
    instance TEXT NOT NULL PRIMARY KEY,
    latest BIGINT NOT NULL,
    readings TEXT NOT NULL,
    written_at BIGINT NOT NULL
);

-- When a bucket was written last, by the clock of whoever did; absent where an older version did.
ALTER TABLE ledger ADD COLUMN written_at BIGINT;

-- Whether the CA is to be asked anew about the renewal, whatever renewal_info says of that.
ALTER TABLE certificates ADD COLUMN ask_anew SMALLINT NOT NULL DEFAULT 0;
