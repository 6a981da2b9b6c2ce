"""Size and location of each planted problem: the numbers that `DEMO_SEED` moves.

Seed 0 has the figures of the specification. Sizes are chosen so that a slow plant stays slow
(about 0.6 to 5 s on two cores) at any `DEMO_SCALE`: the tables grow, the planted work does not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from demo_app import names

# rows of the BOM that the planted loops work on, at any scale
PLANTED_ROWS = 28_653


@dataclass(frozen=True)
class Sizes:
    """The moved figures of one seed.

    Attributes:
        workbooks: names of the planning workbooks that the forecast reads per request.
        workbook_rows: rows of every planning workbook (14 columns).
        reader: which code reads them (see `WORKBOOK_READERS`).
        rereader: which code reads the next two (see `REREADERS`).
        reread_book: the workbook that the second reader reads per request.
        reread_rows: rows of that workbook (14 columns).
        reread_table: the CSV table that it reads again as well.
        explosion: which pattern the BOM explosion uses (see `EXPLOSIONS`).
        loop_service: which service method holds the same pattern (see `LOOP_SERVICES`).
        styles: styles looked up per request.
        order_lines: order lines of the N+1 list, one query each.
        ledger: table and column of the query without an index.
        ledger_rows: rows of that table.
        mismatch: how the cache's written key differs from the one read (see `MISMATCHES`).
        tenant_ms: milliseconds of the early hook.
        hook: the early hook's function name.
        quick_ms: milliseconds of the jittery endpoint's ordinary request.
        jitter_s: seconds of its slow twentieth.
        jitter_offset: which of twenty is slow.
        flaky_offset: which of ten fails.
        leak_bytes: bytes kept per request.
        churn_nodes: objects in reference cycles per request.
        export_chunks: parts of the streamed export.
        export_pause_s: seconds between two of them.
        download_mb: size of the downloaded report in MiB.
    """

    workbooks: tuple[str, ...]
    workbook_rows: int
    reader: int
    rereader: int
    reread_book: str
    reread_rows: int
    reread_table: str
    explosion: int
    loop_service: int
    styles: int
    order_lines: int
    ledger: tuple[str, str]
    ledger_rows: int
    mismatch: int
    tenant_ms: float
    hook: str
    quick_ms: float
    jitter_s: float
    jitter_offset: int
    flaky_offset: int
    leak_bytes: int
    churn_nodes: int
    export_chunks: int
    export_pause_s: float
    download_mb: int


# variants: (source marker of the line, dotted function that holds it)
WORKBOOK_READERS = (
    ("workbooks.service", "SalesForecastingService.fabric_forecast"),
    ("workbooks.helper", "load_plan_sheets"),
    ("workbooks.open", "SalesForecastingService.fabric_forecast"),
)
REREADERS = (
    ("reread.direct", "CapacityPlanningService.machine_suggestions"),
    ("reread.handle", "load_machine_history"),
)
EXPLOSIONS = (
    ("explosion.filter", "explode_styles", "a filter of the whole table and iterrows per style"),
    ("explosion.apply", "explode_with_apply", "a filter of the whole table inside apply(axis=1)"),
    ("explosion.iloc", "explode_row_by_row", "iloc for every cell of every row"),
)
LOOP_SERVICES = (
    ("loop.requirements", "YarnRequirementCalculatorService.requirements"),
    ("loop.coverage", "InventoryAnalyzerService.coverage"),
    ("loop.machine_load", "CapacityPlanningService.machine_load"),
)
MISMATCHES = ("reads 'scope', writes 'scope' with its unit", "reads a number, writes its text",
              "reads lower case, writes upper case")  # fmt: skip
REREAD_TABLES = ("finished_inventory", "bom", "styles")


def sizes(seed: int) -> Sizes:
    """The figures of one seed; seed 0 gives those of the specification."""
    if seed == 0:
        return _specified()
    rng = random.Random(f"sizes {seed}")
    count = rng.randint(5, 8)
    books = tuple(rng.sample(names.WORKBOOKS, count))
    chunks = rng.randint(8, 14)
    return Sizes(
        workbooks=books,
        workbook_rows=round(16_800 / count * rng.uniform(0.9, 1.3)),
        reader=rng.randrange(len(WORKBOOK_READERS)),
        rereader=rng.randrange(len(REREADERS)),
        reread_book=rng.choice(names.HISTORIES),
        reread_rows=rng.randint(9000, 13_000),
        reread_table=rng.choice(REREAD_TABLES),
        explosion=rng.randrange(len(EXPLOSIONS)),
        loop_service=rng.randrange(len(LOOP_SERVICES)),
        styles=rng.randint(1900, 2500),
        order_lines=rng.randint(60, 180),
        ledger=rng.choice(names.LEDGERS),
        ledger_rows=rng.randint(150_000, 240_000),
        mismatch=rng.randrange(len(MISMATCHES)),
        tenant_ms=float(rng.randint(9, 20)),
        hook=rng.choice(names.HOOKS),
        quick_ms=float(rng.randint(10, 30)),
        jitter_s=rng.choice((1.6, 1.8, 2.0, 2.4)),
        jitter_offset=rng.randrange(20),
        flaky_offset=rng.randrange(10),
        leak_bytes=rng.choice((1536, 2048, 3072)),
        churn_nodes=rng.randint(50_000, 90_000),
        export_chunks=chunks,
        export_pause_s=round(rng.uniform(2.0, 2.8) / (chunks - 1), 3),
        download_mb=rng.randint(10, 24),
    )


def _specified() -> Sizes:
    """The figures of the specification."""
    return Sizes(
        workbooks=names.WORKBOOKS[:6], workbook_rows=2800, reader=0,
        rereader=0, reread_book="machine_history", reread_rows=10_000,
        reread_table="finished_inventory", explosion=0, loop_service=0, styles=2000, order_lines=120,
        ledger=names.LEDGERS[0], ledger_rows=170_000, mismatch=0,
        tenant_ms=10.0, hook="load_tenant", quick_ms=20.0, jitter_s=2.0, jitter_offset=7,
        flaky_offset=3, leak_bytes=2048, churn_nodes=60_000,
        export_chunks=11, export_pause_s=0.25, download_mb=16,
    )  # fmt: skip
