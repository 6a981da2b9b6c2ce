"""The roles an endpoint can play: one row per planted problem or healthy endpoint.

A role is what the endpoint does; its name, address and blueprint come from the plan. This is
the table of the specification in code, with its golden sentences.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Sees = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Role:
    """One kind of endpoint: its behaviour and its expected finding.

    Attributes:
        kind: the role's id, also the key of its view.
        name: its endpoint under seed 0.
        blueprint: its blueprint under seed 0; "" is the application itself.
        suffix: what follows the endpoint's slug in its rule.
        example: an address' tail that answers (suffix filled in, query).
        method: the HTTP method.
        weight: requests in the full traffic mix.
        problem: True when `DEMO_FIXED` repairs something here.
        sees: per part of the project the verdict types that must come out.
        allowed: verdict types that may come out besides.
        beside: types that must come out where the forecast runs beside it in one process
            (`--only workbooks,ping` against threads).
        cause: the expected largest cause, "" when none is expected.
        min_share: least share of wall time that cause must have, 0..1.
        golden: the sentence a user should read; fields are filled from the plan.
        differs: why its bodies may differ between sick and fixed, "" when they may not.
    """

    kind: str
    name: str
    blueprint: str
    weight: int
    golden: str
    suffix: str = ""
    example: str = ""
    method: str = "GET"
    problem: bool = False
    sees: Sees = field(default_factory=dict)
    allowed: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    cause: str = ""
    min_share: float = 0.0
    differs: str = ""

    @property
    def part(self) -> str:
        """The part of the project that must see it first, "all" for a healthy endpoint."""
        return next(iter(self.sees), "all")

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Every verdict type that must come out once all parts exist."""
        return tuple(dict.fromkeys(kind for kinds in self.sees.values() for kind in kinds))


_SLOW = ("SLOW_RESPONSE",)

PLANTED = (
    Role(
        "workbooks", "fabric_forecast", "planning", 12, problem=True,
        sees={"foundation": _SLOW, "why": ("REPEATED_FILE_READ",)},
        cause="file_read", min_share=0.9, allowed=("GC_PAUSES",),
        golden="{title} re-reads {books} unchanged workbooks on every request, in {function} "
        "({where}). Cache the files; reload them when they change. "
        "KNITPERF_REUSE_READS = True does that for what pandas reads, and saves most of its time.",
    ),
    Role(
        "reread", "machine_suggestions", "planning", 12, problem=True,
        sees={"foundation": _SLOW, "why": ("REPEATED_FILE_READ",)},
        cause="file_read", min_share=0.9, allowed=("GC_PAUSES",),
        golden="{title} re-reads the unchanged files {reread_book}.xlsx and {reread_table}.csv "
        "on every request ({where}). Cache the files; reload them when they change. "
        "KNITPERF_REUSE_READS = True does that for what pandas reads, and saves most of its time.",
    ),
    Role(
        "explosion", "bom_explosion", "planning", 12, problem=True,
        sees={"foundation": _SLOW}, cause="own_cpu", min_share=0.8,
        golden="{title} spends its time running Python code: {pattern}, in {function} ({where}). "
        "Select all styles in one step and sum them by group.",
    ),
    Role(
        "service_loop", "yarn_requirements", "planning", 12, problem=True,
        sees={"foundation": _SLOW}, cause="own_cpu", min_share=0.8,
        golden="{title} spends its time in {function}: a filter of the whole table and iterrows "
        "per style ({where}). Select all styles in one step and sum them by group.",
    ),
    Role(
        "n_plus_one", "order_detail_list", "sales", 60, problem=True,
        sees={"queries": ("N_PLUS_ONE",)}, cause="sql",
        allowed=("TOO_MANY_QUERIES", "DUPLICATE_QUERIES"),
        golden="{title} runs one query per order line (N+1): {order_lines} per request "
        "({where}). Fetch them with one query.",
    ),
    Role(
        "slow_sql", "customer_balance", "sales", 12, suffix="/<customer>", example="/C007",
        problem=True, sees={"foundation": _SLOW, "queries": ("SLOW_QUERY",)},
        cause="sql", min_share=0.9,
        golden="{title} waits for one slow query ({where}): it scans {table} for every invoice. "
        "Add an index on {table}({column}).",
    ),
    Role(
        "key_mismatch", "yarn_intelligence", "planning", 60, example="?scope=3", problem=True,
        sees={"caching": ("CACHE_KEY_MISMATCH",)},
        allowed=("CACHE_NEVER_HIT",),
        golden="{title} never hits its cache: it {mismatch} ({where}). Use one key for both.",
    ),
    Role(
        "good_cache", "comprehensive_kpis", "planning", 80,
        golden="{title} is healthy; its cache answers nearly every request.",
    ),
    Role(
        "per_user", "price_board", "sales", 60, example="?user=3", problem=True,
        sees={"caching": ("CACHE_PER_USER",)}, cause="cache",
        golden="{title}: its price list reads session['user_id'] ({where}), which is not in its key: "
        "one user would see another's data. Add vary='user', or pass it as an argument.",
    ),
    Role(
        "large_json", "knit_orders", "stock", 60, problem=True,
        sees={"why": ("LARGE_RESPONSE",)},
        golden="{title}: responses average 100 KB of JSON. Compress it, or send it in pages.",
    ),
    Role(
        "stream", "supplier_export", "stock", 12,
        golden="{title} streams for seconds, as its budget of 10 s allows; timed to the last byte.",
    ),
    Role(
        "download", "report_download", "sales", 14,
        golden="{title} sends a file of {download_mb} MiB; no fault.",
    ),
    Role(
        "redirect", "legacy_path", "", 40, suffix="/<path:rest>", example="/stock/list",
        golden="{title} is moved permanently (301); no fault.",
    ),
    Role(
        "early_hook", "tenant_settings", "tenant", 60, problem=True,
        sees={"foundation": ("MODERATE_RESPONSE",)}, cause="early_hook", min_share=0.6,
        golden="{title} spends about {tenant_ms:.0f} ms per request in the hook {hook} ({where}) "
        "before its view starts. Read the tenant once and cache it.",
    ),
    Role(
        "flaky", "flaky_quote", "sales", 300, example="?n=1", problem=True,
        sees={"foundation": ("LOW_SUCCESS_RATE",)},
        differs="the failing tenth is answered 500 when sick and 200 when fixed",
        golden="{title}: 10 % of requests fail with status 500.",
    ),
    Role(
        "jitter", "jittery_schedule", "stock", 160, example="?n=1", problem=True,
        sees={"foundation": ("HIGH_VARIANCE",)}, cause="waiting",
        golden="{title} usually takes {quick_ms:.0f} ms, but 1 in 20 requests waits {jitter_s} s "
        "({where}).",
    ),
    Role(
        "ping", "live_ping", "", 120, allowed=("SLOWED_BY",), beside=("SLOWED_BY",),
        cause="gil_contention",
        golden="{title} is healthy; when it is slow, {culprit} runs beside it.",
    ),
    Role(
        "leak", "notes", "stock", 300, method="POST", example="?n=1", problem=True,
        sees={"memory": ("LEAK_SUSPECTED",)},
        golden="{title} retains about {leak_kb:g} KB per request in a list that only grows "
        "({where}). Bound it.",
    ),
    Role(
        "cycles", "session_churn", "stock", 60, problem=True,
        sees={"memory": ("GC_PAUSES",)}, cause="gc", allowed=("MODERATE_RESPONSE",),
        golden="{title} leaves {churn_nodes:,} objects in reference cycles per request ({where}): "
        "collection pauses, no leak.",
    ),
    Role(
        "stuck", "stuck_report", "sales", 0, problem=True,
        sees={"foundation": ("REQUEST_KILLED",)}, cause="waiting",
        differs="killed by the server's timeout when sick and answered when fixed",
        golden="{title} was killed by the server's timeout while it waited ({where}).",
    ),
    Role(
        "async", "async_quote", "sales", 60,
        golden="{title} is healthy; it is asynchronous, so its CPU time is not known.",
    ),
)  # fmt: skip

HEALTHY = (
    Role("health", "health", "", 60, golden="{title} is healthy."),
    Role("stock", "stock_by_id", "stock", 80, suffix="/<int:item>", example="/{yarn}",
         golden="{title} is healthy."),
    Role("search", "style_search", "stock", 60, example="?q=12", golden="{title} is healthy."),
    Role("create", "order_create", "sales", 60, method="POST", golden="{title} is healthy."),
    Role("cancel", "order_cancel", "sales", 60, suffix="/<order>", example="/{order}",
         method="DELETE", golden="{title} is healthy."),
    Role("weekly", "weekly_demand", "planning", 60, example="?week=2",
         golden="{title} is healthy."),
    Role("suppliers", "supplier_list", "stock", 60, golden="{title} is healthy."),
    Role("roll", "roll_lookup", "stock", 60, suffix="/<int:roll>", example="/{roll}",
         golden="{title} is healthy; a roll that does not exist is a 404, no failure."),
    Role("tracking", "order_status", "sales", 60, example="?n=1",
         golden="{title} is healthy; it waits 40 ms for a carrier, within its budget."),
)  # fmt: skip

ROLES = PLANTED + HEALTHY
