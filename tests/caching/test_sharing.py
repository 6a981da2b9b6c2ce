"""Processes of one host load a value once and hold it once, and none gets a wrong one."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from flask_knitperf.caching.file_state import MIN_AGE_S

from .fork_server import ForkServer, Process


class Host:
    """Processes with one state directory."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self._server, self._folder = server, folder
        self.state, self.log = folder / "state", folder / "log"
        self.log.touch()

    def start(self, *statements: str, **environment: str) -> Process:
        return self._server.start(
            statements,
            {"STATE": str(self.state), "LOG": str(self.log), **environment},
            self._folder,
        )

    def run(self, *statements: str, **environment: str) -> str:
        """Return the output of a process that runs some statements."""
        process = self.start(*statements, **environment)
        output = process.communicate()
        assert process.returncode == 0, output
        return output

    @property
    def loads(self) -> list[str]:
        return self.log.read_text().split()

    @property
    def values(self) -> list[Path]:
        return [path for path in self.state.glob("values-1/*/*") if path.name.isdigit()]


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer(Path(__file__).with_name("sharing_app.py"))
    yield server
    server.close()


@pytest.fixture
def host(server: ForkServer, tmp_path: Path) -> Host:
    return Host(server, tmp_path)


@pytest.mark.slow
def test_eight_processes_of_five_threads_load_one_cold_key_once(host: Host) -> None:
    calls = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(5) as pool:
    print([int(one["seed"].sum()) for one in pool.map(lambda _: frame(7, 1.5), range(5))])
"""
    processes = [host.start(calls) for _ in range(8)]
    outputs = [process.communicate() for process in processes]
    assert outputs == ["[7000, 7000, 7000, 7000, 7000]"] * 8
    assert host.loads == ["7"]


@pytest.mark.slow
def test_when_the_loading_process_is_killed_another_one_loads(host: Host) -> None:
    first = host.start("frame(1, 60)")
    while not host.loads:
        time.sleep(0.01)
    waiting = host.start("frame(1, 60)")
    time.sleep(1.5)
    assert host.loads == ["1"]
    first.kill()
    deadline = time.monotonic() + 15
    while len(host.loads) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    waiting.kill()
    assert host.loads == ["1", "1"]


def test_a_process_that_starts_later_finds_the_value(host: Host) -> None:
    host.run("frame(1)")
    assert host.run("print(len(frame(1)), total()['fetched'], total()['misses'])") == "1000 1 0"
    assert host.loads == ["1"]


def test_the_process_that_loads_a_value_has_it_mapped(host: Host) -> None:
    mapped, on_heap = host.run(
        "short_lived(1)\nprint(total()['mapped_bytes'], total()['bytes'])"
    ).split()
    assert int(mapped) >= 8000
    assert int(on_heap) < int(host.run("private(1)\nprint(total()['bytes'])"))


def test_no_process_can_change_what_another_one_gets(host: Host) -> None:
    spoil = "one = frame(1)\none['seed'] = 5\none.iloc[0, 0] = 9\nprint(one['seed'].sum() > 4000)"
    assert host.run(spoil) == "True"
    check = "one = frame(1)\none.loc[:, 'seed'] = 8\nprint(int(frame(1)['seed'].sum()))"
    assert host.run(check) == "1000"
    assert host.run("print(int(frame(1)['seed'].sum()))") == "1000"
    assert host.loads == ["1"]


@pytest.mark.parametrize("name", ["private", "order"])
def test_a_value_stays_in_its_process_by_choice_or_where_it_is_no_frame(
    name: str, host: Host
) -> None:
    for _ in range(2):
        host.run(f"{name}(1)\n{name}(1)")
    assert host.loads == ["1", "1"]
    assert host.values == []


def test_small_values_are_shared_by_choice_only(host: Host) -> None:
    for _ in range(2):
        assert host.run("print(small(3), len(frame(3, rows=2)))") == "3 2"
    assert host.loads == ["3", "3", "3"]
    assert len(host.values) == 1


def test_coroutines_are_loaded_once_too(host: Host) -> None:
    for _ in range(2):
        host.run("import asyncio\nasyncio.run(awaited(1))")
    assert host.loads == ["1"]


def test_an_invalidated_value_is_found_by_no_process(host: Host) -> None:
    host.run("frame(1)")
    host.run("perf.cache.invalidate(tag='orders')")
    host.run("frame(1)")
    assert host.loads == ["1", "1"]
    host.run("perf.cache.clear()")
    host.run("frame(1)")
    assert host.loads == ["1"] * 3
    assert len(host.values) == 1


@pytest.mark.slow
def test_a_value_that_is_invalidated_while_it_is_loaded_is_found_by_no_process(host: Host) -> None:
    loading = host.start("frame(1, 1.5)")
    while not host.loads:
        time.sleep(0.01)
    host.run("perf.cache.invalidate(tag='orders')")
    loading.communicate()
    host.run("frame(1, 1.5)")
    assert host.loads == ["1", "1"]


@pytest.mark.slow
def test_a_value_is_found_only_while_the_files_that_its_load_read_are_unchanged(
    host: Host, tmp_path: Path
) -> None:
    path = tmp_path / "seed"
    path.write_text("1")
    settled = "from flask_knitperf.caching import file_state; file_state.MIN_AGE_S = -1.0"
    read = f"print(int(of_file({str(path)!r})['seed'].sum()))"
    assert host.run(settled, read) == "1000" == host.run(settled, read) and host.loads == ["file"]
    path.write_text("2")
    assert host.run(settled, read) == "2000" == host.run(settled, read)
    assert host.loads == ["file", "file"]
    path.unlink()
    assert "FileNotFoundError" in host.run(
        settled, f"try: {read}\nexcept Exception as error: print(repr(error))"
    )


@pytest.mark.slow
def test_a_value_expires_at_the_same_time_in_all_processes(host: Host) -> None:
    host.run("short_lived(1)")
    time.sleep(0.5)
    host.run("short_lived(1)")
    assert host.loads == ["1", "1"]


def test_another_configuration_finds_other_values(host: Host) -> None:
    host.run("frame(1)")
    host.run("frame(1)", CONFIG='{"DATABASE": "other"}')
    host.run("frame(1)", DATABASE_URL="other")
    assert host.loads == ["1"] * 3


def test_nothing_is_shared_without_room(host: Host) -> None:
    for _ in range(2):
        host.run("frame(1)", CONFIG='{"KNITPERF_CACHE_SHARED_MAX_MB": 0}')
    assert host.loads == ["1", "1"]
    assert host.values == []


@pytest.mark.slow
def test_the_files_stay_within_their_bound_and_the_least_recently_used_go_first(host: Host) -> None:
    config = '{"KNITPERF_CACHE_SHARED_MAX_MB": 0.1}'
    host.run(
        *(f"frame({seed}); import time; time.sleep(0.02)" for seed in range(20)), CONFIG=config
    )
    assert 2 < len(host.values) < 20
    assert sum(path.stat().st_size for path in host.values) <= 0.1 * 1024**2
    host.run("frame(19)", CONFIG=config)
    assert len(host.loads) == 20


WRAPPERS = {
    "ignore": (
        "cached(ignore=['a'])(load)",
        "cached(ignore=['b'])(load)",
        "one(1, 2)",
        "two(2, 9)",
    ),
    "key": (
        "cached(key=lambda a, b: a)(load)",
        "cached(key=by(1))(load)",
        "one(1, 2)",
        "two(3, 1)",
    ),
    "enclosed": ("cached(key=by(0))(load)", "cached(key=by(1))(load)", "one(1, 2)", "two(3, 1)"),
    "object": ("cached(key=Item(0))(load)", "cached(key=Item(1))(load)", "one(1, 2)", "two(3, 1)"),
    "tags": ("cached(load)", "cached(tags=['a'])(load)", "one(1, 2)", "two(1, 2)"),
    "ttl": ("cached(load)", "cached(ttl=1)(load)", "one(1, 2)", "two(1, 2)"),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_two_caches_of_one_function_with_other_options_share_no_values(
    name: str, host: Host
) -> None:
    one, two, first, second = WRAPPERS[name]
    output = host.run(f"""
def by(place):
    return lambda *arguments: arguments[place]
class Item:
    def __init__(self, place):
        self.place = place
    def __call__(self, *arguments):
        return arguments[self.place]
def load(a, b):
    note(f"{{a}}{{b}}")
    return pd.DataFrame({{"v": np.full(1000, 10 * a + b)}})
cached = perf.cache.cached
one, two = {one}, {two}
print(*(int(value["v"][0]) == a * 10 + b for value, (a, b) in (
    ({first}, {first[3:]}), ({second}, {second[3:]}))))
""")
    assert output == "True True"
    assert len(host.loads) == 2


def test_nothing_is_shared_from_when_an_enclosed_variable_was_changed(host: Host) -> None:
    make = """
def make():
    rate = 1
    @perf.cache.cached
    def priced(number):
        return pd.DataFrame({"v": np.full(1000, number * rate)})
    def set_rate(value):
        nonlocal rate
        rate = value
    return priced, set_rate
priced, set_rate = make()
"""
    assert host.run(make, "priced(0); set_rate(5); print(priced(1)['v'][0])") == "5"
    assert host.run(make, "print(priced(1)['v'][0])") == "1"


def test_no_value_outlives_the_versions_that_it_was_invalidated_by(host: Host) -> None:
    host.run("frame(1)")
    host.run("perf.cache.invalidate(tag='orders')")
    (host.state / "versions-3").unlink()
    host.run("frame(1)")
    assert host.loads == ["1", "1"]


def test_nothing_is_shared_between_processes_that_do_not_share_their_versions(host: Host) -> None:
    host.state.mkdir(mode=0o700)
    (host.state / "versions-3").write_bytes(b"of another program")
    host.run("frame(1)")
    host.run("perf.cache.invalidate(tag='orders')")
    host.run("frame(1)")
    assert host.loads == ["1", "1"]


IN_VAIN = {
    "raises": "raise ValueError",
    "is not cached": "session.get('user'); return pd.DataFrame({'a': range(1000)})",
}


@pytest.mark.parametrize("name", IN_VAIN)
def test_no_process_waits_for_loads_that_give_no_value(name: str, host: Host) -> None:
    load = f"""
from flask import session
app.secret_key = "key"
slow = os.environ["LOG"] + str(os.getpid())
@perf.cache.cached
def load():
    note("begun")
    while os.path.exists(slow):
        time.sleep(0.01)
    {IN_VAIN[name]}
def call():
    with app.test_request_context():
        try:
            load()
        except ValueError:
            pass
call()
"""
    first = host.start(load, "open(slow, 'w').close()", "call()")
    while len(host.loads) < 2:
        time.sleep(0.01)
    try:
        assert host.start(load).communicate(timeout=15).count("Traceback") == 0
    finally:
        first.kill()
    assert host.loads == ["begun"] * 3


def test_views_are_not_loaded_one_after_the_other(host: Host) -> None:
    view = """
@app.get("/")
@perf.cache.cached
def page():
    note("begun")
    while len(open(os.environ["LOG"]).readlines()) < 3:
        time.sleep(0.01)
    return "page"
print(app.test_client().get("/").text)
"""
    processes = [host.start(view) for _ in range(3)]
    assert [process.communicate(timeout=15) for process in processes] == ["page"] * 3


def test_mapped_files_leave_most_descriptors_to_the_application(host: Host) -> None:
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"
    fill = "print([int(frame(seed)['seed'].sum()) for seed in range(40)][-1])"
    assert host.run(few, fill, "files = [open(os.devnull) for _ in range(30)]") == "39000"


@pytest.mark.slow
def test_a_declared_data_file_that_a_module_reads_when_it_is_imported_counts(host: Host) -> None:
    rates = host.log.with_name("rates")
    load = f"""
from flask_knitperf import File
RATE = int(open({str(rates)!r}).read())
@perf.cache.cached(depends=[File({str(rates)!r})])
def priced(number):
    note(RATE)
    return pd.DataFrame({{"v": np.full(1000, number * RATE)}})
print(priced(2)["v"][0])
"""
    for rate in (1, 3):
        rates.write_text(str(rate))
        time.sleep(MIN_AGE_S)  # a younger file is not cached
        assert [host.run(load) for _ in range(2)] == [str(2 * rate)] * 2
    assert host.loads == ["1", "3"]


BREAKS = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "foreign": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "removed": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("/nowhere")),
    "the folder is gone": lambda path: shutil.rmtree(path.parent.parent),
    "the state is gone": lambda path: shutil.rmtree(path.parent.parent.parent),
}


@pytest.mark.parametrize("name", BREAKS)
def test_whatever_happens_to_a_file_the_value_is_loaded_again_and_right(
    name: str, host: Host
) -> None:
    host.run("frame(1)")
    BREAKS[name](host.values[0])
    assert host.run("print(int(frame(1)['seed'].sum()))").endswith("1000")
    assert host.loads == ["1", "1"]
    if name != "a folder":
        host.run("frame(1)")
        assert host.loads == ["1", "1"]


def test_a_value_that_a_process_holds_outlives_the_folder(host: Host) -> None:
    gone = f"import shutil; shutil.rmtree({str(host.state)!r})"
    assert host.run("frame(1)", gone, "print(int(frame(1)['seed'].sum()))").endswith("1000")


@pytest.mark.slow
def test_a_process_killed_at_any_step_of_a_store_leaves_nothing_wrong(host: Host) -> None:
    killing = """
import os
from flask_knitperf.storage.atomic_files import Disk
def counted(name):
    original = getattr(Disk, name)
    def call(self, *args):
        global step
        if "values-1" in str(args[0]):
            step -= 1
            if step == 0 and name == "write_parts":
                parts = list(args[1])
                original(self, args[0], parts[:-2])
                os.kill(os.getpid(), 9)
            if step == 0:
                os.kill(os.getpid(), 9)
        return original(self, *args)
    setattr(Disk, name, call)
for name in ("write_parts", "replace", "unlink"):
    counted(name)
"""
    host.run("frame(1)")
    for step in (1, 2, 3):
        host.run("perf.cache.clear()")
        process = host.start(f"step = {step}", killing, "frame(1)")
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert host.run("print(int(frame(1)['seed'].sum()))") == "1000"


def test_a_full_disk_is_logged_once_and_fails_no_call(host: Host) -> None:
    full = """
import errno, logging
from flask_knitperf.storage.atomic_files import Disk
def write_parts(self, path, parts):
    raise OSError(errno.ENOSPC, "No space left on device")
Disk.write_parts = write_parts
"""
    output = host.run(full, "print([len(frame(seed)) for seed in range(3)])")
    assert output.count("No space left") == 1
    assert output.endswith("[1000, 1000, 1000]")


@pytest.mark.slow
def test_a_child_that_is_forked_while_a_value_is_loaded_loads_it_itself(host: Host) -> None:
    forked = """
import os, threading, time
thread = threading.Thread(target=lambda: frame(1, 2.0))
thread.start()
time.sleep(0.5)
child = os.fork()
if child == 0:
    value = frame(2)
    os._exit(0 if len(value) == 1000 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
"""
    assert host.run(forked).splitlines()[-1] == "0"  # Python 3.12 warns of the fork
    assert sorted(host.loads) == ["1", "2"]


def test_without_record_locks_each_process_loads_and_the_values_are_shared(host: Host) -> None:
    hidden = "from flask_knitperf.storage import atomic_files; atomic_files._fcntl = None"
    host.run(hidden, "frame(1)")
    host.run(hidden, "frame(1)")
    assert host.loads == ["1"]


def test_a_recursive_call_of_a_shared_function_does_not_wait_for_itself(host: Host) -> None:
    recursive = """
@perf.cache.cached(share=True)
def down(number):
    return 0 if number == 0 else 1 + down(number - 1)
print(down(30))
"""
    assert host.run(recursive) == "30"


def test_the_process_that_loads_a_frame_gets_it_mapped_where_frames_copy_on_write(
    host: Host,
) -> None:
    mapped = "print('values-1' in open('/proc/self/maps').read())"
    expected = "True" if int(pd.__version__.partition(".")[0]) >= 3 else "False"
    assert host.run("one = frame(1)", "perf.cache.clear()", mapped) == expected


def test_a_range_of_labels_stays_a_range_while_it_is_cached(host: Host) -> None:
    labels = "print('_data' in frame(1).index._cache)"
    assert host.run(labels, labels) == "False\nFalse"
