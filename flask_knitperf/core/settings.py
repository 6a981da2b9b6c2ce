"""Options as rows of one table, read once into a frozen :class:`Settings`.

The table is the only definition of an option: validation, the documentation's table and the message
for a misspelt key are derived from it.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .errors import ConfigurationError

PREFIX = "KNITPERF_"
HUNT = "_KNITPERF_HUNT"
"""Environment variable that disables this package in a process of the leak hunt."""


class Option(NamedTuple):
    """One row: key without prefix, default, accepted values, validator, description.

    ``read`` returns the value or raises ``ValueError``. ``shown`` documents a computed default.
    """

    key: str
    default: Any
    allowed: str
    read: Callable[[Any], Any]
    help: str
    shown: str = ""


def _number(low: float, high: float = math.inf) -> tuple[str, Callable[[Any], Any]]:
    upto = f"from {low:g} to {high:g}" if high < math.inf else f"of {low:g} or more"

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        if not low <= value <= high:
            raise ValueError
        return float(value)

    return f"must be a number {upto}", read


def _whole(low: int, high: int) -> tuple[str, Callable[[Any], Any]]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return f"must be a whole number from {low} to {high}", read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _text(value: Any) -> str:
    text = str(os.fspath(value)) if isinstance(value, str | os.PathLike) else ""
    if not text:
        raise ValueError
    return text


def _path(value: Any) -> str:
    text = _text(value)
    if "\0" in text:  # no system accepts it
        raise ValueError
    return text


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _prefix(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
        raise ValueError
    return value


def _server_url(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"(redis|rediss|valkey|valkeys|unix)://[^\s]+", text):
        raise ValueError
    return text


def _secret(value: Any) -> str:
    if not isinstance(value, str) or len(value) < 16:
        raise ValueError
    return value


def _paths(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError
    if not all(isinstance(path, str) and path.startswith("/") for path in value):
        raise ValueError
    return tuple(value)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError
    return tuple(value)


def _endings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError
    if not all(isinstance(ending, str) and re.fullmatch(r"\.[^/\\]+", ending) for ending in value):
        raise ValueError
    return tuple(dict.fromkeys(ending.lower() for ending in value))


def _mappings(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, Mapping) for one in value):
        raise ValueError
    return tuple(value)


def _mapping_of_mappings(value: Any) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(one, Mapping) for name, one in value.items()
    ):
        raise ValueError
    return value


def _address(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", text):
        raise ValueError
    return text.rstrip("/")


def _is_plain(text: str) -> bool:
    """Return whether a text passes through every header and form unchanged."""
    return text.isascii() and text.isprintable() and text == text.strip()


def _token(value: Any) -> str:
    if not isinstance(value, str) or len(value) < 16 or not _is_plain(value):
        raise ValueError
    return value


def _function(value: Any) -> Any:
    """Return a function that can be called without an event loop."""
    if not callable(value) or any(
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        for function in (value, type(value).__call__)
    ):
        raise ValueError
    return value


class Budget(NamedTuple):
    """The thresholds of one endpoint.

    Attributes:
        slow_ms: duration above which a request is slow.
        moderate_ms: duration above which a request is noticeably slow.
        min_success_rate: share of requests, 0 to 1, that must be answered below 500.
        variance_ratio: largest normal ratio of standard deviation to mean.
        queries: maximum number of statements per request, ``None`` for any number.
    """

    slow_ms: float
    moderate_ms: float
    min_success_rate: float
    variance_ratio: float
    queries: float | None = None


_LIMITS = {
    "slow_ms": _number(0.001), "moderate_ms": _number(0.001),
    "min_success_rate": _number(0, 1), "variance_ratio": _number(0),
    "queries": _number(0),
}  # fmt: skip
BUDGET_KEYS = (*_LIMITS, "p95_ms")


def limits(name: str, thresholds: Mapping[str, Any]) -> dict[str, float]:
    """Return the validated thresholds of one endpoint.

    ``p95_ms`` is another name for ``moderate_ms``: 95 % of requests must be within it.

    Raises:
        ConfigurationError: a threshold is unknown or out of bounds.
    """
    if not isinstance(thresholds, Mapping):
        raise ConfigurationError(name, thresholds, "must be a mapping of " + ", ".join(BUDGET_KEYS))
    validated: dict[str, float] = {}
    for key, value in thresholds.items():
        if key not in BUDGET_KEYS:
            near = difflib.get_close_matches(str(key), BUDGET_KEYS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(
                f"{name}[{key!r}]", value, f"thresholds are {', '.join(BUDGET_KEYS)}{hint}"
            )
        target = "moderate_ms" if key == "p95_ms" else key
        allowed, read_ = _LIMITS[target]
        try:
            validated[target] = read_(value)
        except ValueError:
            raise ConfigurationError(f"{name}[{key!r}]", value, allowed) from None
    return validated


def _endpoints(value: Any) -> dict[str, dict[str, float]]:
    if not isinstance(value, Mapping):
        raise ValueError
    return {str(name): limits(f"KNITPERF_ENDPOINTS[{name!r}]", v) for name, v in value.items()}


def _log_bytes(value: Any) -> int:
    size: int = _whole(1 << 16, 1 << 28)[1](value)
    if size % 4096:
        raise ValueError
    return size


_FLAG = ("must be True or False", _flag)
DEFAULT_CHANNELS = {"log": {"kind": "log"}}
"""Channels of alerts: the logger of this package."""
_SECRET = ("ACCESS_TOKEN", "ALERT_CHANNELS", "CACHE_SECRET", "CACHE_URL")
"""Options whose values errors do not show."""
OPTIONS = (
    Option("ENABLED", True, *_FLAG,
           "Off: no hook, no thread, no page; the application runs as if the extension were not "
           "there."),
    Option("SLOW_MS", 500.0, *_number(0.001),
           "More than 5 % of requests above it: `SLOW_RESPONSE`, CRITICAL."),
    Option("MODERATE_MS", 200.0, *_number(0.001),
           "More than 5 % of requests above it: `MODERATE_RESPONSE`, WARNING. Time above it counts "
           "as excess."),
    Option("MIN_SUCCESS_RATE", 0.95, *_number(0, 1),
           "Share of requests that must have a status below 500."),
    Option("VARIANCE_RATIO", 2.0, *_number(0),
           "Ratio of standard deviation to mean above which: `HIGH_VARIANCE`."),
    Option("LARGE_RESPONSE_KB", 64.0, *_number(1),
           "Mean size of responses that are not streamed, in KB, above which: `LARGE_RESPONSE`."),
    Option("FILE_READS", True, *_FLAG,
           "Record what pandas reads within requests: files, bytes, rows, seconds, and whether the "
           "file had changed."),
    Option("QUERIES", True, *_FLAG,
           "Record the statements that SQLAlchemy engines and wrapped connections execute within "
           "requests: fingerprints, call sites, rows, seconds. Literals and parameters are never "
           "stored."),
    Option("QUERY_SITES", True, *_FLAG,
           "Record the call site of each statement, which doubles the cost of recording it; without "
           "it N+1 queries are recognised by their fingerprint alone."),
    Option("SLOW_QUERY_MS", 100.0, *_number(0.001),
           "More than 5 % of the executions of one statement above it: `SLOW_QUERY`, WARNING."),
    Option("EXPLAIN", False, *_FLAG,
           "Run EXPLAIN on the next execution of a slow statement (SQLite, PostgreSQL), once an hour; "
           "statements that only read are executed once more for that, for one second at most."),
    Option("OPENED_FILES", (), "must be a list of file name extensions such as .json", _endings,
           "File name extensions whose reads through `open` are recorded too: `(\".json\", \".csv\")`."),
    Option("REQUEST_DETAILS", True, *_FLAG,
           "Keep single requests: per endpoint the latest 50 and the slowest 20, with a timeline of "
           "their parts, concurrent requests and stack samples. Nothing that a user sent is stored."),
    Option("LEAK_WATCH", True, *_FLAG,
           "Detect growth of allocated memory in workers; while it grows, measure the bytes that single "
           "requests retain: `LEAK_SUSPECTED`."),
    Option("SAMPLER", sys.version_info >= (3, 12), *_FLAG,
           "Sample the stacks of threads with a request in flight, at up to 20 Hz and at most 0.5 % of "
           "a core: shows the lines where requests spend their time.", "`True`; on Python 3.11 `False`"),
    Option("ENDPOINTS", {}, "must be a mapping of endpoint to thresholds", _endpoints,
           'Thresholds of single endpoints: `{"forecast": {"slow_ms": 4000}}`, keys '
           + ", ".join(f"`{key}`" for key in BUDGET_KEYS) + "."),
    Option("TARGET_P95_MS", 200.0, *_number(0.001),
           "Scorecard: target for the p95 of each endpoint."),
    Option("TARGET_MEMORY_MB", 500.0, *_number(1),
           "Scorecard: target for the memory of one worker, in MB of 1024² bytes."),
    Option("GC_THRESHOLD_MB", 500.0, *_number(1),
           "Resident memory of a worker above which its housekeeper collects garbage and returns free "
           "memory to the system."),
    Option("GC_MIN_INTERVAL_S", 30.0, *_number(1),
           "Minimum seconds between two such collections; doubles while they do not help."),
    Option("GC_FREEZE", False, *_FLAG,
           "Call `gc.freeze` once a worker is warm, so that collections skip long-lived objects, and "
           "report the duration of a full collection before and after."),
    Option("CLEANUP_INTERVAL_S", 300.0, *_number(1),
           "Seconds between two removals of expired entries from registered caches."),
    Option("REUSE_READS", False, *_FLAG,
           "Answer `read_csv`, `read_table`, `read_excel`, `read_json`, `read_parquet` and "
           "`read_feather` of an unchanged file from the cache, with a separate frame for each call."),
    Option("CACHE_MAX_MB", 64.0, *_number(0),
           "MB of memory for cached values in each worker; the least useful ones are evicted."),
    Option("CACHE_SHARE_BYTES", 65_536, *_whole(0, 1 << 40),
           "Size in bytes from which a cached value lies in a file too, which all workers map."),
    Option("CACHE_SHARED_MAX_MB", 512.0, *_number(0),
           "MB of disk that these files may take; `0` shares none."),
    Option("CACHE_URL", None,
           "must be a URL of the scheme redis, rediss, valkey, valkeys or unix, or None",
           _optional(_server_url),
           "Redis or Valkey server by which several hosts share cached values and invalidations; needs "
           "`flask-knitperf[redis]`.", "off"),
    Option("CACHE_SECRET", None, "must be a text of 16 or more characters, or None", _optional(_secret),
           "Signs the values on that server; all hosts need the same one.", "`SECRET_KEY`"),
    Option("CACHE_TIMEOUT_MS", 50.0, *_number(1, 10_000),
           "Milliseconds within which that server has to answer, connecting included."),
    Option("CACHE_STALE_SECONDS", 30.0, *_number(3, 86_400),
           "Seconds after which values expire while that server is lost, since invalidations by other "
           "hosts do not arrive."),
    Option("CACHE_SERVER_MAX_KB", 1024.0, *_number(0),
           "KB of the largest value on that server."),
    Option("CACHE_PER_HOST", (), "must be a list of names", _names,
           "Options and environment variables that differ between hosts and change no result; hosts "
           "share values only if all others are equal."),
    Option("CACHE_VERIFY", None, "must be a whole number of 0 or more", _optional(_whole(0, 1 << 40)[1]),
           "Mean number of hits of cached functions of which one is loaded again after its response was "
           "sent, and compared; `0` verifies none.", "`1000`; `0` where `TESTING` is set"),
    Option("CACHE_WARM_SECONDS", 10.0, *_number(0, 3600),
           "Seconds of loading in which a worker warms functions with `warm=True` after its start, and "
           "later at a time; `0` warms none."),
    Option("CACHE_STALE_BUDGET", 0.05, *_number(0, 1),
           "Share of hits that may be out of date, of cached functions with a `ttl`."),
    Option("CACHE_WHATIF", True, *_FLAG,
           "Watch profiled functions as if they were cached, and report what caching them would save; "
           "nothing is cached."),
    Option("CACHE_WHATIF_SHARE", 0.005, *_number(0, 1),
           "Share of the time of those functions that hashing their results may take, to learn which "
           "answers from a cache would be stale; `0` hashes none."),
    Option("IGNORE_PATHS", (), "must be a list of paths that start with /", _paths,
           "Requests whose path starts with one of these are not recorded."),
    Option("LONG_POLLS", (), "must be a list of endpoints", _names,
           "Endpoints that answer once there is news: counted with their duration, and never judged by "
           "it. Websockets, server-sent events and Socket.IO are recognised without it."),
    Option("URL_PREFIX", "/perf", "must be a path such as /perf, without a slash at its end",
           _prefix, "URL prefix of the dashboard."),
    Option("ACCESS_TOKEN", None, "must be a secret of at least 16 printable ASCII characters",
           _optional(_token),
           "Gives access to the dashboard: as `Authorization: Bearer`, or through "
           "`flask knitperf open`."),
    Option("ACCESS", None, "must be a function that takes the request, and no coroutine",
           _optional(_function), "Called with the request; grants access by returning `True`."),
    Option("RELEASE", None, "must be a text such as a version or commit", _optional(_text),
           "Release to which totals belong; without one they belong to a start of the server."),
    Option("STATE_DIR", None, "must be a path", _optional(_path),
           "Directory of the workers' measurements: private to their user, on a local "
           "disk.", "a folder per user and application in the temporary directory"),
    Option("HISTORY", True, *_FLAG,
           "Keep what is measured for 400 days, for longer windows than a run."),
    Option("HISTORY_URL", None, "must be a path, or an address postgresql://…", _optional(_path),
           "Database of the history: a SQLite file, or PostgreSQL, which needs the extra postgres.",
           "a file in the instance folder of the application if there is one, else in the state "
           "directory"),
    Option("HISTORY_MAX_MB", 500.0, *_number(1),
           "Size that the history is kept below."),
    Option("ALERTS", True, *_FLAG,
           "Evaluate rules over the history, and send messages of alerts."),
    Option("ALERT_RULES", (), "must be a list of mappings with name and metric", _mappings,
           "Rules beside the nine that are on from the start, or in their place if they have the same "
           "name; `{\"name\": …, \"enabled\": False}` switches one off."),
    Option("ALERT_CHANNELS", DEFAULT_CHANNELS, "must be a mapping of name to channel",
           _mapping_of_mappings, "Where messages of alerts are sent to.",
           "the log"),
    Option("PUBLIC_URL", None, "must be an address that starts with https:// or http://",
           _optional(_address),
           "Address of the dashboard as people reach it, for links in messages of alerts."),
    Option("RUNS_KEPT", 5, *_whole(1, 100),
           "Number of runs (releases or server starts) that are kept."),
    Option("TRUST_QUEUE_HEADER", False, *_FLAG,
           "Use `X-Request-Start`; only where a proxy of yours sets it."),
    Option("CPU_SAMPLE", 64, *_whole(1, 10_000),
           "CPU time is sampled for one in this many requests (always for the first 256 of a worker, "
           "and for each slow request on a path that was slow in the worker's last 4,096)."),
    Option("COST_BUDGET_US", 150.0, *_number(1),
           "Microseconds of overhead per request above which details are shed, which the report shows; "
           "up to a hundredth of the time of the requests nothing is."),
    Option("FOLD_INTERVAL_S", 5.0, *_number(0.1, 300),
           "Seconds between two folds of a worker's log into its table."),
    Option("LOG_BYTES", 1 << 20, "must be a multiple of 4096 from 65536 to 268435456", _log_bytes,
           "Size of a worker's log."),
)  # fmt: skip


class Settings(NamedTuple):
    """Values of the options; names and units as in :data:`OPTIONS`, in lower case."""

    enabled: bool
    slow_ms: float
    moderate_ms: float
    min_success_rate: float
    variance_ratio: float
    large_response_kb: float
    file_reads: bool
    queries: bool
    query_sites: bool
    slow_query_ms: float
    explain: bool
    opened_files: tuple[str, ...]
    request_details: bool
    leak_watch: bool
    sampler: bool
    endpoints: Mapping[str, Mapping[str, float]]
    target_p95_ms: float
    target_memory_mb: float
    gc_threshold_mb: float
    gc_min_interval_s: float
    gc_freeze: bool
    cleanup_interval_s: float
    reuse_reads: bool
    cache_max_mb: float
    cache_share_bytes: int
    cache_shared_max_mb: float
    cache_url: str | None
    cache_secret: str | None
    cache_timeout_ms: float
    cache_stale_seconds: float
    cache_server_max_kb: float
    cache_per_host: tuple[str, ...]
    cache_verify: int | None
    cache_warm_seconds: float
    cache_whatif: bool
    cache_whatif_share: float
    cache_stale_budget: float
    ignore_paths: tuple[str, ...]
    long_polls: tuple[str, ...]
    url_prefix: str
    access_token: str | None
    access: Callable[..., Any] | None
    release: str | None
    state_dir: str
    history: bool
    history_url: str
    history_max_mb: float
    alerts: bool
    alert_rules: tuple[Mapping[str, Any], ...]
    alert_channels: Mapping[str, Mapping[str, Any]]
    public_url: str | None
    runs_kept: int
    trust_queue_header: bool
    cpu_sample: int
    cost_budget_us: float
    fold_interval_s: float
    log_bytes: int

    def __repr__(self) -> str:
        """Name the class only: a value may be secret."""
        return f"<{type(self).__name__}>"

    def budget(self, endpoint: str) -> Budget:
        """Return the thresholds of an endpoint: its configured ones, else the global ones.

        If only ``moderate_ms`` (or ``p95_ms``) is configured, ``slow_ms`` scales with it.
        """
        own = self.endpoints.get(endpoint)
        if own is None:
            return Budget(
                self.slow_ms, self.moderate_ms, self.min_success_rate, self.variance_ratio
            )
        moderate = own.get("moderate_ms", self.moderate_ms)
        slow = own.get("slow_ms", self.slow_ms * moderate / self.moderate_ms)
        if "slow_ms" in own and "moderate_ms" not in own:
            moderate = min(moderate, slow)
        return Budget(
            slow, moderate, own.get("min_success_rate", self.min_success_rate),
            own.get("variance_ratio", self.variance_ratio), own.get("queries"),
        )  # fmt: skip

    def with_budgets(self, more: Mapping[str, Mapping[str, float]]) -> Settings:
        """Return these settings with thresholds from decorators; those of the configuration win."""
        if not more:
            return self
        merged = {name: {**more.get(name, {}), **self.endpoints.get(name, {})}
                  for name in {*more, *self.endpoints}}  # fmt: skip
        return self._replace(endpoints=merged)


def read(
    config: Mapping[str, Any], *, app_root: str = "", name: str = "app", instance: str = ""
) -> Settings:
    """Return the settings in a Flask configuration.

    Args:
        config: keys that start with ``KNITPERF_`` are read, all others ignored.
        app_root: the application's root path; with ``name`` it identifies the default state
            directory.
        name: the application's name.
        instance: the application's instance folder, which need not exist.

    Raises:
        ConfigurationError: a key is unknown, or a value cannot be used.
    """
    options = {PREFIX + option.key: option for option in OPTIONS}
    for key, value in config.items():
        if key.startswith(PREFIX) and key not in options:
            near = difflib.get_close_matches(key, options, 1, 0)
            raise ConfigurationError(
                key, "<hidden>" if _may_be_secret(key, value) else value,
                f"there is no such option; did you mean {near[0]}?",
            )  # fmt: skip
    values: dict[str, Any] = {}
    for key, option in options.items():
        value = config.get(key, option.default)
        try:
            values[option.key.lower()] = option.read(value)
        except ValueError:
            shown = "<hidden>" if option.key in _SECRET else value
            raise ConfigurationError(key, shown, option.allowed) from None
    if values["moderate_ms"] > values["slow_ms"]:
        raise ConfigurationError(
            "KNITPERF_MODERATE_MS", values["moderate_ms"],
            f"must not exceed KNITPERF_SLOW_MS ({values['slow_ms']:g})",
        )  # fmt: skip
    values["enabled"] = values["enabled"] and HUNT not in os.environ
    values["state_dir"] = values["state_dir"] or default_state_dir(app_root, name)
    values["history_url"] = values["history_url"] or _default_history(
        values["state_dir"], instance, name
    )
    return Settings(**values)


def _may_be_secret(key: str, value: Any) -> bool:
    """Return whether the value of an unknown option may be a password, or hold one."""
    return any(word in key for word in ("TOKEN", "SECRET", "URL", "URI")) or "://" in str(value)


def _default_history(state: str, instance: str, name: str) -> str:
    """Return the path of the history: in an instance folder that exists, else in the state directory."""
    if instance and os.path.isdir(instance) and os.access(instance, os.W_OK | os.X_OK):
        return os.path.join(instance, f"knitperf-{_safe(name)}.sqlite")
    return os.path.join(state, "history", "history.sqlite")


def _safe(text: str) -> str:
    """Return a text as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:60]


def default_state_dir(app_root: str, name: str) -> str:
    """Return the folder of this user and application in the temporary directory."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    text = f"{app_root}\n{name}".encode("utf-8", "surrogatepass")  # a folder outside of UTF-8
    digest = hashlib.sha256(text).hexdigest()[:8]
    folder = f"flask_knitperf-{_safe(f'{user}-{name}')}-{digest}"
    return os.path.join(tempfile.gettempdir(), folder)


def markdown() -> str:
    """Return the options as a table for the documentation."""
    lines = ["| option | default | purpose |", "|---|---|---|"]
    for option in OPTIONS:
        default = option.shown or f"`{option.default!r}`"
        help_ = f"{option.help} It {option.allowed}."
        lines.append(f"| `{PREFIX}{option.key}` | {default} | {help_} |")
    return "\n".join(lines) + "\n"
