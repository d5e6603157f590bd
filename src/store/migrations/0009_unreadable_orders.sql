-- How many looks in a row at the order of an attempt could not be read; absent where the last one could, and in rows of the
-- former release, which counts none.
ALTER TABLE attempts ADD COLUMN unreadable_looks BIGINT;
