"""The benchmarks: a module NAME measures the rows ``NAME`` and ``NAME.*`` of the published table.

Each has ``run(quick) -> Outcome``; its docstring opens its chapter in ``docs/benchmarks/index.md``.
"""

ORDER = (
    "overhead", "overhead_paths", "outside", "peers", "accuracy", "exact", "servers", "kill",
    "endurance", "deploy", "report_time", "startup", "idle", "plants", "bad_input", "unauthenticated",
    "sign_in", "memory", "evidence", "file_reads", "savings", "savings_sql", "savings_time",
    "hot_lines",
    "known_causes", "overload", "advice",
    "flame_difference", "sampler", "queries", "queries_exact", "literals", "pool_size",
    "dropped_applications", "alarms", "databases", "query_secrets", "n_plus_one", "frames", "leaks",
    "leak_size", "memory_plants", "leakhunt", "live_frames", "cache_traps", "cache_idioms",
    "cache_privacy", "cache_dependencies", "cache_hits", "cache_reads", "cache_policy", "cache_sharing",
    "cache_observers", "cache_verification", "cache_ttl", "cache_size", "cache_what_if",
    "cache_advice_demo", "query_cache", "cache_server", "cache_warming",
    "history", "trends", "alerts", "pages", "open_page", "host_suites", "stress",
)  # fmt: skip
"""Names of the benchmarks, in the order in which they run and are published."""
