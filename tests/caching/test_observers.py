"""Caches of the application are counted, and stay what they are."""

from __future__ import annotations

import collections
import collections.abc
import copy
import pickle
import random
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cachetools
import flask
import pytest
from flask_caching.backends.simplecache import SimpleCache

from flask_knitperf import CacheOptimizer, KnitPerfError
from flask_knitperf.api.caches import MAX_PATTERNS_OF_ALL
from flask_knitperf.caching import observed as observed_module
from flask_knitperf.caching.observed import MAX_PATTERNS, OTHER_KEYS, ObservedCache
from flask_knitperf.caching.observers import observe
from flask_knitperf.metrics.catalogue import ObservedEvent as Event
from flask_knitperf.render import html_cache, terminal_cache

NOW: list[None] = []  # its length is the time
CACHES: dict[str, Callable[[], Any]] = {
    "dict": dict,
    "OrderedDict": collections.OrderedDict,
    "defaultdict": lambda: collections.defaultdict(list),
    "Cache": lambda: cachetools.Cache(4),
    "FIFOCache": lambda: cachetools.FIFOCache(4),
    "LRUCache": lambda: cachetools.LRUCache(4),
    "LFUCache": lambda: cachetools.LFUCache(4),
    "TTLCache": lambda: cachetools.TTLCache(4, 9, timer=NOW.__len__),
    "TLRUCache": lambda: cachetools.TLRUCache(4, lambda _, __, now: now + 9, NOW.__len__),
    "getsizeof": lambda: cachetools.LRUCache(6, getsizeof=lambda value: value % 3 + 1),
}  # fmt: skip


@pytest.fixture(params=CACHES)
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return CACHES[request.param]


def counters(name: str = "mill") -> ObservedCache:
    return ObservedCache(name, lambda: ("orders", "GET"))


def events(observed: ObservedCache) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for use in observed.uses():
        total.update({str(event): n for event, n in use.counts().items() if n})
    return dict(total)


def pickled(one: Any) -> Any:
    return pickle.loads(pickle.dumps(one))


def tried(call: Callable[[], Any]) -> Any:
    """Return the result of a call, or the type and arguments of its exception."""
    try:
        return call()
    except Exception as error:
        return type(error), error.args


OPERATIONS: tuple[Callable[[Any, int], Any], ...] = (
    lambda cache, key: cache[key],
    lambda cache, key: cache.get(key),
    lambda cache, key: cache.get(key, 99),
    lambda cache, key: cache.get(key, default=99),
    lambda cache, key: key in cache,
    lambda cache, key: cache.__setitem__(key, key * 7),
    lambda cache, key: cache.__setitem__(key, None),
    lambda cache, key: cache.setdefault(key, 5),
    lambda cache, key: cache.setdefault(key),
    lambda cache, key: cache.pop(key),
    lambda cache, key: cache.pop(key, 3),
    lambda cache, key: cache.popitem(),
    lambda cache, key: cache.__delitem__(key),
    lambda cache, key: cache.update({key: 8}),
    lambda cache, key: cache[[key]],
    lambda cache, key: cache.get([key]),
    lambda cache, key: len(cache),
    lambda cache, key: list(cache.items()),
    lambda cache, key: repr(cache),
)


@pytest.mark.parametrize("seed", range(5))
def test_results_errors_and_evictions_are_those_of_the_cache(
    make: Callable[[], Any], seed: int
) -> None:
    plain, observing = make(), observe(make(), counters())
    rng = random.Random(seed)
    for _ in range(400):
        operation, key = rng.choice(OPERATIONS), rng.randrange(8)
        NOW.append(None)
        here, there = (tried(lambda: operation(cache, key)) for cache in (plain, observing))  # noqa: B023
        assert here == there
        assert dict(plain) == dict(observing)


def test_an_observed_cache_is_of_its_class(make: Callable[[], Any]) -> None:
    kind, observing = type(make()), observe(make(), counters())
    assert isinstance(observing, kind)
    assert type(observing).__name__ == kind.__name__
    observing[1] = 2
    assert observing == {1: 2} or dict(observing) == {1: 2}


@pytest.mark.parametrize(
    "name", ["dict", "OrderedDict", "LRUCache", "LFUCache", "FIFOCache", "Cache"]
)
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_is_of_the_class_itself_and_is_not_counted(
    name: str, copied: Callable[[Any], Any]
) -> None:
    observed, kind = counters(), type(CACHES[name]())
    observing = observe(CACHES[name](), observed)
    observing["a"] = 1
    before = events(observed)
    other = copied(observing)
    assert type(other) is kind
    assert dict(other) == {"a": 1}
    other["b"] = 2
    other.get("c")
    assert {**events(observed), "other": 0} == {**before, "other": 0}


def test_every_reference_to_an_object_is_observed() -> None:
    cache = cachetools.LRUCache[str, int](4)
    elsewhere, observed = cache, counters()
    assert observe(cache, observed) is cache
    elsewhere.get("a")
    assert events(observed) == {"miss": 1}


def test_look_ups_are_counted_once(make: Callable[[], Any]) -> None:
    observed = counters()
    cache = observe(make(), observed)
    assert cache.get("a") is None
    assert "a" not in cache
    cache["a"] = 1
    assert "a" in cache  # what is there is read next
    assert (cache["a"], cache.get("a"), cache.get("a", 4)) == (1, 1, 1)
    assert events(observed) == {"hit": 2, "miss": 2, "repeated": 1, "write": 1, "other": 1}


@pytest.mark.parametrize("name", ["dict", "LRUCache", "TTLCache"])
def test_a_value_that_equals_the_default_is_a_hit(name: str) -> None:
    observed = counters()
    cache = observe(CACHES[name](), observed)
    cache["a"] = None
    assert (cache.get("a"), cache.get("b")) == (None, None)
    assert events(observed) == {"hit": 1, "miss": 1, "write": 1}


def test_a_test_a_write_and_a_read_of_one_key_are_one_look_up(make: Callable[[], Any]) -> None:
    observed = counters()
    cache = observe(make(), observed)
    for key in ("a", "b", "a"):
        if key not in cache:
            cache[key] = 1
        assert cache[key] == 1
    assert events(observed) == {"miss": 2, "write": 2, "hit": 1, "other": 1}


def test_a_missing_key_and_setdefault_are_counted() -> None:
    observed = counters()
    cache = observe({}, observed)
    with pytest.raises(KeyError):
        cache["a"]
    assert cache.setdefault("a", 1) == 1  # what the look-up has missed
    assert cache.setdefault("a", 2) == 1
    assert cache.setdefault("b", 2) == 2
    assert events(observed) == {"miss": 2, "write": 2, "hit": 1}


def test_removals_are_not_counted(make: Callable[[], Any]) -> None:
    observed = counters()
    cache = observe(make(), observed)
    cache["a"] = cache["b"] = 1
    cache.pop("a"), cache.pop("c", None), cache.popitem(), cache.clear()
    assert events(observed) == {"write": 2, "other": 2}  # pop() is a use of its key


def test_a_defaultdict_misses_what_it_creates() -> None:
    observed = counters()
    cache = observe(collections.defaultdict(list), observed)
    cache["a"].append(1)
    cache["a"].append(2)
    assert events(observed) == {"miss": 1, "hit": 1, "write": 1}


def test_a_key_that_was_evicted_is_known_to_have_been_written() -> None:
    observed = counters()
    cache = observe(cachetools.LRUCache(1), observed)
    cache["a"] = 1
    cache["b"] = 2
    assert cache.get("a") is None
    assert events(observed) == {"miss": 1, "gone": 1, "write": 2}
    assert dict(cache.items()) == {"b": 2} == dict(zip(cache, cache.values(), strict=True))
    counted = events(observed)
    assert counted.pop("other") >= 2  # assertions may evaluate their operands again
    assert counted == {"miss": 1, "gone": 1, "write": 2}


@pytest.mark.parametrize("kind", [dict, lambda: cachetools.LRUCache(1_000)])
def test_threads_lose_no_count(kind: Callable[[], Any]) -> None:
    observed = counters()
    cache, lock = observe(kind(), observed), threading.Lock()

    def work(number: int) -> None:
        for n in range(2_000):
            with lock:
                cache[f"{number}:{n % 10}"] = n
                assert cache.get(f"{number}:{n % 10}") == n
            cache.get("never")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = events(observed)
    assert (counted["write"], counted["hit"], counted["miss"]) == (16_000, 16_000, 16_000)


def test_patterns_are_bounded() -> None:
    observed = counters()
    cache = observe({}, observed)
    for n in range(MAX_PATTERNS + 30):
        cache.get("-" * n)
    names = [use.pattern for use in observed.uses()]
    assert len(names) == MAX_PATTERNS + 1
    assert OTHER_KEYS in names


def test_keys_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed_module, "MAX_HASHES", 10)
    observed = counters()
    cache = observe({}, observed)
    for n in range(100):
        cache.get(f"order {n}")
    assert len(observed._sought) == len(observed._by_hash) == 10
    assert all(type(one) is int for one in (*observed._sought, *observed._by_hash))


def test_a_failure_ends_the_observation_and_reaches_no_caller(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    observed = counters()
    cache = observe({}, observed)
    monkeypatch.setattr(observed_module, "pattern_of", lambda *_: 1 / 0)
    cache["a"] = 1
    assert cache["a"] == 1
    assert "no longer observed" in caplog.text


# -- classes -------------------------------------------------------------------------------------------


class CacheManager:
    """As applications write one."""

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def get(self, key: Any) -> Any:
        """Return a value."""
        return self.values.get(str(key))

    def set(self, key: Any, value: Any, ttl: float = 60) -> bool:
        self.values[str(key)] = value
        return ttl > 0

    def fetch(self, key: Any) -> Any:
        return self.values.get(str(key), -1)

    async def later(self, key: Any) -> Any:
        return self.get(key)


def test_all_instances_of_a_class_are_counted_together() -> None:
    class Manager(CacheManager):
        pass

    cache = CacheOptimizer()
    assert cache.observe_class(Manager, name="managers") is Manager
    one, other = Manager(), Manager()
    assert one.get("a") is None
    assert one.set("a", 1, ttl=3) is True
    assert (one.get("a"), other.get(key="b"), other.get(["unhashable"])) == (1, None, None)
    assert Manager.get.__doc__ == "Return a value."
    assert events(cache._observed["managers"]) == {"hit": 1, "miss": 3, "write": 1}
    assert CacheManager().get("a") is None  # the class above is as it was
    assert events(cache._observed["managers"])["miss"] == 3


def test_the_methods_and_the_result_of_a_miss_can_be_named() -> None:
    cache = CacheOptimizer()

    @cache.observe_class(get="fetch", missing=-1, name="named")
    class Manager(CacheManager):
        pass

    manager = Manager()
    manager.set("a", None)
    assert (manager.fetch("a"), manager.fetch("b")) == (None, -1)
    assert events(cache._observed["named"]) == {"hit": 1, "miss": 1, "write": 1}


def test_a_backend_of_flask_caching_is_observed() -> None:
    backend, observed = SimpleCache(), counters()
    observe(backend, observed)
    assert backend.get("a") is None
    backend.set("a", [1], timeout=5)
    assert backend.get("a") == [1]
    assert events(observed) == {"hit": 1, "miss": 1, "write": 1}


@pytest.mark.parametrize("cache", [object(), 5, [1], "text"])
def test_what_is_no_cache_is_refused(cache: Any) -> None:
    with pytest.raises(KnitPerfError, match="cannot be observed"):
        CacheOptimizer().observe(cache)


def test_a_cache_is_observed_once() -> None:
    optimizer = CacheOptimizer()
    cache = optimizer.observe(cachetools.LRUCache(3))
    with pytest.raises(KnitPerfError, match="already observed"):
        optimizer.observe(cache)
    with pytest.raises(KnitPerfError, match="already observed"):
        optimizer.observe_class(optimizer.observe_class(type("Manager", (CacheManager,), {})))


@pytest.mark.parametrize("names", [{"get": "read"}, {"set": "write"}, {"get": "later"}])
def test_methods_that_cannot_be_observed_are_refused(names: dict[str, str]) -> None:
    with pytest.raises(KnitPerfError, match=r"has no method|asynchronous"):
        CacheOptimizer().observe_class(CacheManager, **names)


# -- what outsiders found ------------------------------------------------------------------------------


class ReadThrough(dict[str, int]):
    def __missing__(self, key: str) -> int:
        self[key] = len(key)
        return self[key]


class Counting(collections.abc.MutableMapping[str, int]):
    """Counts the calls of its methods."""

    def __init__(self) -> None:
        self.values_of: dict[str, int] = {}
        self.calls: collections.Counter[str] = collections.Counter()

    def __getitem__(self, key: str) -> int:
        self.calls["getitem"] += 1
        return self.values_of[key]

    def __setitem__(self, key: str, value: int) -> None:
        self.calls["setitem"] += 1
        self.values_of[key] = value

    def __delitem__(self, key: str) -> None:
        del self.values_of[key]

    def __iter__(self) -> Any:
        return iter(self.values_of)

    def __len__(self) -> int:
        return len(self.values_of)


def use_of(cache: Any) -> None:
    cache.get("a"), cache.setdefault("a", 1), cache.get("a"), "b" in cache, cache.pop("a", None)


def test_methods_of_a_mapping_are_called_as_often_as_without() -> None:
    plain, observing = Counting(), observe(Counting(), counters())
    use_of(plain), use_of(observing)
    assert plain.calls == observing.calls


def test_a_value_that_a_look_up_loads_itself_is_a_miss() -> None:
    observed = counters()
    cache = observe(ReadThrough(), observed)
    assert [cache[key] for key in ("a", "bb", "a")] == [1, 2, 1]
    assert events(observed) == {"miss": 2, "write": 2, "hit": 1}


def test_two_levels_are_counted_each() -> None:
    first, second = counters("first"), counters("second")
    outer, inner = CacheManager(), observe({"a": 1}, second)
    outer.values = inner
    observe(outer, first)
    assert outer.get("a") == 1
    assert (events(first), events(second)) == ({"hit": 1}, {"hit": 1})


def test_a_batch_of_loads_is_no_mismatch(make_app: Any) -> None:
    mill = make_app(TESTING=True)
    cache, numbers = mill.perf.cache.observe({}, name="batch"), iter(range(10_000))

    @mill.app.get("/batch")
    def batch() -> str:
        keys = [f"item:{next(numbers)}" for _ in range(60)]
        for key in [key for key in keys if key not in cache]:
            cache[key] = 1
        return "ok"

    for _ in range(5):
        assert mill.get("/batch").code == 200
    [row] = report(mill)["observed"]
    assert (row["misses"], row["writes"], report(mill)["mismatches"]) == (300, 300, [])


@pytest.mark.parametrize(
    "use",
    [
        lambda cache, n: f"order:{n}" in cache,
        lambda cache, n: cache.pop(f"order:{n}"),
        lambda cache, n: list(cache.items()),
        lambda cache, n: cache.update({"banned": n}),
    ],
)
def test_what_is_used_in_another_way_is_no_mismatch(make_app: Any, use: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True)
    cache = mill.perf.cache.observe({}, name="mixed")

    @mill.app.get("/mixed/<int:number>")
    def mixed(number: int) -> str:
        cache.get(f"banned:{number}")
        cache[f"order:{number}"] = number
        use(cache, number)
        return "ok"

    for number in range(60):
        assert mill.get(f"/mixed/{number}").code == 200
    assert report(mill)["mismatches"] == []
    assert report(mill)["observed"][0]["fault"] is None


@pytest.mark.parametrize("lock", [None, threading.Lock()])
def test_cachetools_decorator_is_counted_as_it_counts_itself(lock: Any) -> None:
    observed = counters()
    cache = observe(cachetools.LRUCache(100), observed)

    @cachetools.cached(cache, lock=lock, info=True)
    def price(style: int) -> int:
        return style

    for number in range(30):
        price(number % 20)
    info = price.cache_info()
    counted = events(observed)
    assert (counted["hit"], counted["miss"], counted["write"]) == (info.hits, info.misses, 20)


def test_objects_and_lists_as_keys_have_no_past() -> None:
    class Key:
        pass

    observed = counters()
    manager = observe(CacheManager(), observed)
    for _ in range(10):
        manager.get(Key()), manager.get([1])
    assert events(observed) == {"miss": 20}


def test_the_key_is_found_by_its_name() -> None:
    observed = counters()
    manager = observe(CacheManager(), observed)
    manager.set(value={"a": 1}, key="user")
    assert [use.pattern for use in observed.uses()] == ["user"]


def test_a_default_that_is_returned_is_a_miss() -> None:
    class Manager(CacheManager):
        def get(self, key: Any, default: Any = None) -> Any:
            return self.values.get(str(key), default)

    observed = counters()
    manager = observe(Manager(), observed)
    manager.get("a", -1), manager.get("a", default=-1), manager.get("a")
    assert events(observed) == {"miss": 3, "repeated": 2}


@pytest.mark.parametrize("wrap", [classmethod, staticmethod])
def test_methods_of_a_class_itself_are_refused(wrap: Any) -> None:
    kind = type("Manager", (CacheManager,), {"get": wrap(lambda *_: None)})
    with pytest.raises(KnitPerfError, match="not a plain method"):
        CacheOptimizer().observe_class(kind)


def test_an_inherited_method_is_looked_up_as_before() -> None:
    class Middle(CacheManager):
        pass

    class Other(CacheManager):
        def get(self, key: Any) -> Any:
            return f"other {key}"

    class Both(Middle, Other):
        pass

    observe_class = CacheOptimizer().observe_class
    observe_class(Middle)
    assert Both().get("a") == "other a"


def test_functions_of_one_name_are_counted_together_and_once(make_app: Any) -> None:
    mill = make_app(TESTING=True)

    class Styles:
        @lru_cache  # noqa: B019
        def price(self, style: int) -> int:
            return style

    styles = Styles()
    styles.price(1)
    cache = mill.perf.cache
    cache.observe(styles.price, name="prices"), cache.observe(Styles.price, name="prices")
    other = cache.observe(lru_cache(lambda style: style), name="prices")

    @mill.app.get("/prices")
    def prices() -> str:
        styles.price(1), styles.price(2), other(1)
        return "ok"

    assert mill.get("/prices").code == 200
    [row] = report(mill)["observed"]
    assert (row["hits"], row["misses"]) == (1, 2)  # what was before is not counted


def test_patterns_of_all_caches_are_bounded() -> None:
    optimizer = CacheOptimizer()
    for number in range(12):
        cache = optimizer.observe({}, name=f"cache {number}")
        for n in range(40):
            cache.get("-" * n)
    patterns = sum(len(one.uses()) for one in optimizer._observed_caches())
    assert patterns <= MAX_PATTERNS_OF_ALL + 12


# -- in an application ---------------------------------------------------------------------------------


def report(mill: Any) -> Any:
    return mill.session.documents.cache("run")


def test_the_report_has_the_caches_of_the_application(make_app: Any) -> None:
    mill = make_app(TESTING=True)
    yarns = mill.perf.cache.observe(cachetools.TTLCache(100, 60), name="yarns")

    @lru_cache
    def price(style: int) -> int:
        return style

    mill.perf.cache.observe(price, name="prices")

    @mill.app.get("/yarn/<int:number>")
    def yarn(number: int) -> str:
        price(number % 3)
        if (known := yarns.get(f"yarn:{number % 4}")) is None:
            known = yarns[f"yarn:{number % 4}"] = str(number)
        return str(known)[:0] + "ok"

    for number in range(40):
        assert mill.get(f"/yarn/{number}").code == 200
    rows = {row["cache"]: row for row in report(mill)["observed"]}
    assert (rows["prices"]["hits"], rows["prices"]["misses"]) == (37, 3)
    yarn_row = rows["yarns"]
    assert (yarn_row["hits"], yarn_row["misses"], yarn_row["writes"]) == (36, 4, 4)
    assert (yarn_row["hit_rate"], yarn_row["attainable_rate"]) == (0.9, 0.9)
    assert yarn_row["load_s"] > 0 < yarn_row["saved_s"]
    assert [row["pattern"] for row in yarn_row["patterns"]] == ["yarn:#"]
    assert report(mill)["mismatches"] == []
    price.cache_clear()
    price(1)
    assert {row["cache"]: row["misses"] for row in report(mill)["observed"]}["prices"] == 4


def mismatched(mill: Any, read: Callable[[int], Any], written: Callable[[int], Any]) -> Any:
    cache = mill.perf.cache.observe({}, name="intelligence")

    @mill.app.get("/intelligence")
    def intelligence() -> str:
        scope = int(flask.request.args["scope"])
        known = cache.get(read(scope))
        if known is None:
            cache[written(scope)] = known = "figures"
        return known

    for number in range(40):
        assert mill.get(f"/intelligence?scope={number % 8}").code == 200
    return report(mill)


def keys(number: int) -> tuple[tuple[Any, Any], ...]:
    """Return keys that are read, each with the one that is written."""
    return (
        (f"yarn:{number}", f"yarn:{number}:lbs"),
        (("yarn", number), ("yarn", str(number))),
        (f"yarn/{number}", f"YARN/{number}"),
        (f"yarn:{number}", f"yarn:{number + 1000}"),
    )


@pytest.mark.parametrize(
    ("which", "patterns"),
    [
        (0, ("yarn:#", "yarn:#:lbs")),
        (1, ("('yarn', #)", "('yarn', '#')")),
        (2, ("yarn/#", "YARN/#")),
        (3, ("yarn:#", "yarn:#")),
    ],
)  # fmt: skip
def test_a_cache_that_is_read_and_written_under_different_keys_is_named(
    make_app: Any, which: int, patterns: tuple[str, str]
) -> None:
    mill = make_app(TESTING=True)
    [row] = mismatched(mill, lambda n: keys(n)[which][0], lambda n: keys(n)[which][1])["mismatches"]
    assert (row["read"], row["written"], row["count"]) == (*patterns, 40)
    assert row["endpoint"] == "intelligence"
    assert row["where"].startswith("caching/test_observers.py:")
    assert row["recommendation"] == f"Use one key for both ({row['where']})."
    findings = mill.session.documents.report("run")["bottlenecks"]
    [finding] = [row for row in findings if row["type"] == "CACHE_KEY_MISMATCH"]
    assert finding["recommendation"] == row["recommendation"]
    page = html_cache.cache(report(mill))
    assert page["mismatches"][0]["text"] == row["text"]


def test_a_cache_with_one_key_is_not_named(make_app: Any) -> None:
    document = mismatched(make_app(TESTING=True), lambda n: f"yarn:{n}", lambda n: f"yarn:{n}")
    assert document["mismatches"] == []
    assert document["observed"][0]["hits"] == 32


def test_a_load_that_writes_other_keys_too_is_no_mismatch(make_app: Any) -> None:
    mill = make_app(TESTING=True)
    cache = mill.perf.cache.observe({}, name="orders")

    @mill.app.get("/order/<int:number>")
    def order(number: int) -> str:
        if (
            cache.get(f"blocked:{number}") is None
            and (known := cache.get(f"order:{number}")) is None
        ):
            cache[f"log:{number}"] = number  # never read
            known = cache[f"order:{number}"] = "ok"
        return known

    for number in range(60):
        assert mill.get(f"/order/{number % 12}").code == 200
    [row] = report(mill)["observed"]
    assert {one["pattern"]: one["hits"] for one in row["patterns"]} == {
        "blocked:#": 0, "order:#": 48, "log:#": 0
    }  # fmt: skip
    assert report(mill)["mismatches"] == []


@pytest.mark.parametrize(
    ("number_of", "size", "fault"),
    [
        (lambda n: n, 100, "a new key nearly each time"),
        (lambda n: n % 20, 2, "expire or are evicted before they are looked up again"),
    ],
)
def test_a_cache_that_never_hits_is_explained(
    make_app: Any, number_of: Callable[[int], int], size: int, fault: str
) -> None:
    mill = make_app(TESTING=True)
    cache = mill.perf.cache.observe(cachetools.LRUCache(size), name="styles")

    @mill.app.get("/styles")
    def styles() -> str:
        for n in range(60):
            if cache.get(number_of(n)) is None:
                cache[number_of(n)] = n
        return "ok"

    assert mill.get("/styles").code == 200
    [row] = report(mill)["observed"]
    assert fault in row["fault"]
    assert row["attainable_rate"] == pytest.approx(0.0 if size == 100 else 40 / 60, abs=1e-4)


def test_the_terminal_shows_the_caches_of_the_application(make_app: Any) -> None:
    document = mismatched(make_app(TESTING=True), lambda n: f"a:{n}", lambda n: f"b:{n}")
    text = terminal_cache.cache(document)
    assert "CACHES OF THE APPLICATION" in text
    assert "Use one key for both" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("event", Event)
def test_counts_are_taken_once(event: Event) -> None:
    observed = counters()
    cache = observe(cachetools.LRUCache(1), observed)
    cache.get("a"), cache.get("a")
    cache["a"] = 1
    cache.get("a")
    cache["b"] = 2
    cache.get("a")
    taken = [use.take() for use in observed.uses()]
    assert sum(row.get(event, 0) for row in taken) == {"hit": 1, "miss": 3, "repeated": 2, "gone": 1,
                                                     "write": 2, "other": 0}[event]  # fmt: skip
    assert not any(use.take() for use in observed.uses())
