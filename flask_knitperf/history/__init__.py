"""History: what was measured in the last 400 days, in a database that outlives workers and releases.

One process per host writes it (:mod:`.lease`, :mod:`.writer`): every ten seconds the difference between
the totals of the run and those of the previous time, at four resolutions (:mod:`.resolutions`). Rows
hold buckets (:mod:`.rows`), so that a window of any length has exact counts and the quantiles of the
buckets added (:mod:`.windows`). The database is SQLite or PostgreSQL (:mod:`.databases`).

The application never waits for it: a request neither writes nor reads it, and where it cannot be used
the measurements go on without.
"""
