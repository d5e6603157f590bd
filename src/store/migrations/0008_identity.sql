-- Which store this is; made once. And a row for each kind of probe, which is written to see whether writing works. Both
-- lie apart from facts, whose values are sealed.
CREATE TABLE store_identity (
    id TEXT NOT NULL PRIMARY KEY,
    identity TEXT NOT NULL
);
CREATE TABLE write_probes (
    id TEXT NOT NULL PRIMARY KEY,
    value @blob NOT NULL
);
