"""The tables of the history, and how those of an earlier version become the present ones.

=================== =============================================================================
knitperf_schema     the version of the tables
knitperf_sources    writers: one state directory of one host each
knitperf_series     what rows are about: a series, a gauge or a note, with its labels or its key
knitperf_rows       what was added to one of them in one slot of time (:mod:`.rows`)
knitperf_baselines  totals of a run up to which rows were written, by source, run and resolution
knitperf_marks      moments with a name: deploys
knitperf_leases     who may write, or evaluate alerts (:mod:`.lease`)
knitperf_alerts     states of alerts that are not ok (:mod:`..alerts`)
knitperf_events     changes of alerts, and acts of people: silences, edited rules
knitperf_outbox     messages to channels, and their deliveries
knitperf_silences   alerts that send no message up to a time
knitperf_rules      rules that were written on the page
=================== =============================================================================

A version once released is never changed: a later one appends statements.
"""

from __future__ import annotations

from ..core.errors import HistoryError
from .databases import Connection

_MIGRATIONS = (
    """
    CREATE TABLE knitperf_sources (id {id}, name TEXT NOT NULL UNIQUE);
    CREATE TABLE knitperf_series (
        id {id}, identity TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, name TEXT NOT NULL,
        labels TEXT NOT NULL, about TEXT NOT NULL);
    CREATE TABLE knitperf_rows (
        resolution INTEGER NOT NULL, series BIGINT NOT NULL, slot BIGINT NOT NULL,
        source BIGINT NOT NULL, data {bytes} NOT NULL,
        PRIMARY KEY (resolution, series, slot, source)){options};
    CREATE TABLE knitperf_baselines (
        source BIGINT NOT NULL, run TEXT NOT NULL, resolution INTEGER NOT NULL, at {real} NOT NULL,
        slot BIGINT NOT NULL, data {bytes} NOT NULL,
        PRIMARY KEY (source, run, resolution)){options};
    CREATE TABLE knitperf_marks (
        source BIGINT NOT NULL, at {real} NOT NULL, kind TEXT NOT NULL, about TEXT NOT NULL,
        PRIMARY KEY (source, at, kind)){options};
    CREATE TABLE knitperf_leases (
        name TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, epoch BIGINT NOT NULL,
        expires {real} NOT NULL){options}
    """,
    """
    CREATE TABLE knitperf_alerts (
        identity TEXT NOT NULL PRIMARY KEY, rule TEXT NOT NULL, subject TEXT NOT NULL,
        state TEXT NOT NULL){options};
    CREATE TABLE knitperf_events (
        id {id}, at {real} NOT NULL, rule TEXT NOT NULL, subject TEXT NOT NULL, kind TEXT NOT NULL,
        about TEXT NOT NULL);
    CREATE INDEX knitperf_events_at ON knitperf_events (at);
    CREATE TABLE knitperf_outbox (
        id {id}, identity TEXT NOT NULL UNIQUE, channel TEXT NOT NULL, body TEXT NOT NULL,
        created {real} NOT NULL, due {real} NOT NULL, tries INTEGER NOT NULL, state TEXT NOT NULL,
        error TEXT NOT NULL, ended {real});
    CREATE INDEX knitperf_outbox_due ON knitperf_outbox (state, due);
    CREATE TABLE knitperf_silences (
        id {id}, rule TEXT NOT NULL, subject TEXT NOT NULL, until {real} NOT NULL,
        reason TEXT NOT NULL);
    CREATE TABLE knitperf_rules (
        identity TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, data TEXT NOT NULL){options}
    """,
    # rows of ten minutes: a history without them, which no release has written, begins again
    """
    DELETE FROM knitperf_rows; DELETE FROM knitperf_baselines; DELETE FROM knitperf_marks
    """,
)
VERSION = len(_MIGRATIONS)
TABLES = (
    "sources", "series", "rows", "baselines", "marks", "leases", "alerts", "events", "outbox",
    "silences", "rules",
)  # fmt: skip


def prepare(connection: Connection) -> None:
    """Create the tables, or bring them to the present version.

    Raises:
        HistoryError: a later version has written them.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS knitperf_schema (version INTEGER NOT NULL)")
    if _version(connection) == VERSION:
        return
    with connection.transaction():
        known = _version(connection)  # another process may have been faster
        if known > VERSION:
            raise HistoryError(
                f"the history has version {known}, and this flask_knitperf reads {VERSION}: it was "
                "written by a later release; upgrade, or set KNITPERF_HISTORY_URL to another place"
            )
        for statements in _MIGRATIONS[known:]:
            for statement in statements.split(";"):
                connection.execute(statement.format(**connection.dialect.types))
        connection.execute("DELETE FROM knitperf_schema")
        connection.execute("INSERT INTO knitperf_schema (version) VALUES (?)", (VERSION,))


def _version(connection: Connection) -> int:
    """Return the version of the tables, 0 without any."""
    rows = connection.execute("SELECT version FROM knitperf_schema")
    return int(rows[0][0]) if rows else 0
