"""Whatever the disk, the configuration or the clock does, the application keeps answering.

A wrong option is a clear error at start. Everything else is found out while real workers serve: a
state directory that cannot be used, a full disk, damaged files, files that vanish. Then every answer
must be the application's own, the report must still come, and say what is degraded.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.core.errors import ConfigurationError
from flask_knitperf.storage import runs

from ..harness.client import ASKS, Answer, Books, Load, counts, every_worker, impossible, report
from ..harness.outcome import Outcome
from ..harness.servers import Gunicorn
from . import bad_input_clocks

_RELEASE = {
    "KNITPERF_RELEASE": "one", "KNITPERF_FOLD_INTERVAL_S": 0.5, "KNITPERF_LOG_BYTES": 65536,
}  # fmt: skip
WRONG: tuple[tuple[str, Any, str], ...] = (
    ("KNITPERF_SLOW_MSS", 1, "KNITPERF_SLOW_MS"),
    ("KNITPERF_STATEDIR", "/x", "KNITPERF_STATE_DIR"),
    ("KNITPERF_SLOW_MS", "500", "number"),
    ("KNITPERF_SLOW_MS", float("nan"), "number"),
    ("KNITPERF_SLOW_MS", -1, "number"),
    ("KNITPERF_ENABLED", "yes", "True or False"),
    ("KNITPERF_MIN_SUCCESS_RATE", 95, "from 0 to 1"),
    ("KNITPERF_LOG_BYTES", 100_000, "multiple of 4096"),
    ("KNITPERF_URL_PREFIX", "perf/", "path"),
    ("KNITPERF_ACCESS_TOKEN", "short", "16 characters"),
    ("KNITPERF_STATE_DIR", 7, "path"),
    ("KNITPERF_ENDPOINTS", {"a": {"slow": 1}}, "slow_ms"),
    ("KNITPERF_ENDPOINTS", {"a": {"slow_ms": "x"}}, "number"),
    ("KNITPERF_MODERATE_MS", 900, "KNITPERF_SLOW_MS"),
    ("KNITPERF_RUNS_KEPT", 0, "whole number"),
    ("KNITPERF_IGNORE_PATHS", ["health"], "begin with /"),
)


class Seen(NamedTuple):
    """What a server did: the client's books, the last report, and anything that was wrong."""

    books: Books
    answer: Answer
    wrong: list[str]


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    unclear = [said for case in WRONG if (said := _wrong_option(*case))]
    outcome.judge("bad_input.options", f"{len(WRONG)} unknown keys and wrong values", "a clear error "
                  "at start", f"{len(WRONG) - len(unclear)} clear", not unclear)  # fmt: skip
    outcome.notes += unclear
    total = 200 if quick else 3_000
    for name, what, case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            try:
                told, fine = case(Path(folder), total)
            except Exception as error:
                told, fine = f"{type(error).__name__}: {error}"[:200], False
        if told.startswith("skipped"):
            outcome.judge(f"bad_input.{name}", what, "answers, says so", told, None)
            continue
        told = told.replace(folder, "…")
        short = "answered, said so" if fine else "see the notes"
        outcome.judge(f"bad_input.{name}", what, "answers, says so", short, fine)
        outcome.notes.append(f"{name}: {told}")
    bad_input_clocks.run(outcome, 500 if quick else 20_000)
    return outcome


def _wrong_option(key: str, value: Any, hint: str) -> str | None:
    """Return what is unclear about the error that an option makes, ``None`` if it is clear."""
    app = Flask("wrong")
    app.config[key] = value
    try:
        KnitPerf(app)
    except ConfigurationError as error:
        text = str(error)
        return None if key in text and hint in text else f"{key}={value!r}: {text}"
    except Exception as error:
        return f"{key}={value!r}: {type(error).__name__}: {error}"
    return f"{key}={value!r} was taken"


# -- serving ---------------------------------------------------------------------------------------


def _serve(server: Gunicorn, total: int, meanwhile: Callable[[], None] | None = None) -> Seen:
    """Send the load at a running server; return what was seen."""
    load = Load(server.port, threads=4, total=total).start()
    if meanwhile is not None:
        while load.books.asked < total // 3:
            time.sleep(0.01)
        meanwhile()
    books = load.wait()
    time.sleep(2.5)
    answer = _patient(server)
    wrong = [f"{what} × {count}" for what, count in books.unexpected.items()]
    if books.uncertain:
        wrong.append(f"{sum(books.uncertain.values())} requests broke")
    if answer.status != 200:
        wrong.append(f"the report said {answer.status}")
    else:
        wrong += impossible(answer.document)
    return Seen(books, answer, wrong)


def _patient(server: Gunicorn) -> Answer:
    for _ in range(5):
        answer = report(server.port)
        if answer.status != 429:
            break
        time.sleep(1)
    return answer


def _degraded(seen: Seen) -> list[str]:
    return list(seen.answer.document["self"]["degraded"]) if seen.answer.status == 200 else []


def _judge(seen: Seen, *, says: str = "", exact: bool = False) -> tuple[str, bool]:
    """Return what to print, and whether the application answered and the report said so."""
    said = _degraded(seen)
    wrong = list(seen.wrong)
    if says and not any(says in sentence for sentence in said):
        wrong.append(f"the report does not say {says!r}: {said}")
    if exact and not wrong:
        found, expected = counts(seen.answer.document), seen.books.committed
        short = {key: (count, found[key]) for key, count in expected.items() if found[key] < count}
        if short:
            wrong.append(f"not exact: {short}")
    if wrong:
        return "; ".join(wrong)[:300], False
    told = f"all {seen.books.asked:,} answered"
    return told + (", exact" if exact else "") + (f"; “{said[0]}”" if said else ""), True


# -- cases -----------------------------------------------------------------------------------------


def _unwritable(folder: Path, total: int) -> tuple[str, bool]:
    (folder / "file").write_text("")
    config = {"KNITPERF_STATE_DIR": str(folder / "file" / "state")}
    with Gunicorn(folder / "server", "--workers=2", config=config) as server:
        return _judge(_serve(server, total), says="memory only")


def _read_only(folder: Path, total: int) -> tuple[str, bool]:
    """The directory is there and may not be written to; for root only a read-only disk does that."""
    server = Gunicorn(folder / "server", "--workers=2")
    server.state.mkdir()
    mounted = os.geteuid() == 0
    if mounted and not (_mount(server.state, "size=1m") and _mount(server.state, "remount,ro")):
        return "skipped: this needs tmpfs", False
    if not mounted:
        server.state.chmod(0o500)
    try:
        with server:
            return _judge(_serve(server, total), says="not writable")
    finally:
        if mounted:
            subprocess.run(["umount", str(server.state)], check=False)


def _foreign(folder: Path, total: int) -> tuple[str, bool]:
    state: Path = folder / "state"
    if os.geteuid() == 0:
        state.mkdir(mode=0o700)
        os.chown(state, 65534, 65534)
    else:
        state = Path("/usr")
    config = {"KNITPERF_STATE_DIR": str(state)}
    with Gunicorn(folder / "server", "--workers=2", config=config) as server:
        return _judge(_serve(server, total), says="another user")


def _open_to_others(folder: Path, total: int) -> tuple[str, bool]:
    server = Gunicorn(folder / "server", "--workers=2")
    server.state.mkdir()
    server.state.chmod(0o777)
    with server:
        return _judge(_serve(server, total), says="others may write")


def _full(folder: Path, total: int) -> tuple[str, bool]:
    """A disk that fills up while workers serve; with room again nothing may be missing."""
    disk = folder / "disk"
    disk.mkdir(mode=0o700)
    if not _mount(disk, "size=2m"):
        return "skipped: this needs root and tmpfs", False
    try:
        config = {"KNITPERF_STATE_DIR": str(disk / "state"), **_RELEASE}
        with Gunicorn(folder / "server", "--workers=4", config=config) as server:
            every_worker(server.port, 4)
            filler = disk / "filler"
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1024))
            before = Load(server.port, total=12_000).start().wait()
            seen = _serve(server, total)
            seen.books.committed.update(before.committed)
            told, fine = _judge(seen, says="No space left")
            filler.unlink()
            time.sleep(3)
            after = Seen(seen.books, _patient(server), [])
            later, exact = _judge(after, exact=True)
            return f"{told}; with room again: {later}", fine and exact
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def _full_at_start(folder: Path, total: int) -> tuple[str, bool]:
    """A disk with room for a few logs of eight when the workers begin."""
    small = folder / "small"
    small.mkdir(mode=0o700)
    if not _mount(small, "size=300k"):
        return "skipped: this needs root and tmpfs", False
    try:
        config = {"KNITPERF_STATE_DIR": str(small / "state"), **_RELEASE}
        with Gunicorn(folder / "server", "--workers=8", config=config) as server:
            return _judge(_serve(server, total), says="No space left")
    finally:
        subprocess.run(["umount", str(small)], check=False)


def _mount(folder: Path, options: str) -> bool:
    words = ["mount", "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", str(folder)]
    with suppress(OSError):
        return subprocess.run(words, check=False, capture_output=True).returncode == 0
    return False


def _limited(folder: Path, total: int) -> tuple[str, bool]:
    """No file may grow beyond 512 KiB, so no log can be made."""
    program = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19)); "
        "sys.argv = sys.argv[1:]; runpy.run_module('gunicorn', run_name='__main__', alter_sys=True)"
    )
    with Gunicorn(folder, "--workers=2", launcher=("-c", program, "gunicorn")) as server:
        return _judge(_serve(server, total), says="kept in memory only")


def _run_of(server: Gunicorn) -> Path:
    return runs.runs(server.state)[-1]


def _fill(server: Gunicorn) -> None:
    """Send so much that workers have folded, and have logs besides."""
    asks = tuple(ask for ask in ASKS if ask.path not in ("/busy", "/waits"))
    Load(server.port, total=12_000, asks=asks).start().wait()
    time.sleep(1.5)


def _damaged_while_running(folder: Path, total: int) -> tuple[str, bool]:
    """Tables become garbage under a living server; the next fold puts them right."""
    with Gunicorn(folder, "--workers=4", config=_RELEASE) as server:
        _fill(server)
        tables = list(_run_of(server).glob("w-*.table"))

        def meanwhile() -> None:
            for path in tables:
                path.write_bytes(b"garbage")
            for name in ("commands.log", "app.json"):
                (_run_of(server) / name).write_bytes(b"\xff\x00{not json")

        told, fine = _judge(_serve(server, total, meanwhile))
        return f"{told} ({len(tables)} tables)", fine and bool(tables)


def _damaged_files(damage: Callable[[Path], None]) -> Callable[[Path, int], tuple[str, bool]]:
    """Kill a server, damage what it left, and go on in the same run."""

    def case(folder: Path, total: int) -> tuple[str, bool]:
        with Gunicorn(folder, "--workers=4", config=_RELEASE) as server:
            _fill(server)
            for pid in [server.pid, *server.workers()]:
                os.kill(pid, signal.SIGKILL)
        files = sorted(path.suffix for path in _run_of(server).glob("w-*"))
        damage(_run_of(server))
        with Gunicorn(folder, "--workers=4", config=_RELEASE) as server:
            seen = _serve(server, total)
            told, fine = _judge(seen)
            own = seen.answer.document["self"]
        if ".table" not in files or ".log" not in files:
            return f"nothing to damage: {files}", False
        says = own["degraded"] or own["dropped"]
        told = f"{told}; dropped {own['dropped']}"
        return (told, fine) if says or not fine else (f"{told}, but nothing is said", False)

    return case


def _garbage(run_: Path) -> None:
    rng = random.Random(5)
    for path in [*run_.glob("*.table"), *run_.glob("*.log")]:
        path.write_bytes(rng.randbytes(4096))


def _truncated(run_: Path) -> None:
    for path in [*run_.glob("*.table"), *run_.glob("w-*.log")]:
        data = path.read_bytes()
        path.write_bytes(data[: len(data.rstrip(b"\0")) // 2 + 5])


def _flipped(run_: Path) -> None:
    for path in run_.glob("*.table"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))


def _vanished(folder: Path, total: int) -> tuple[str, bool]:
    with Gunicorn(folder, "--workers=4", config=_RELEASE) as server:
        seen = _serve(server, total, lambda: shutil.rmtree(server.state, ignore_errors=True))
        told, fine = _judge(seen)
        said = _degraded(seen)
        return (told, fine) if said or not fine else (f"{told}, but nothing is said", False)


CASES: tuple[tuple[str, str, Callable[[Path, int], tuple[str, bool]]], ...] = (
    ("unwritable", "a state directory that cannot be made", _unwritable),
    ("read_only", "a state directory without write permission", _read_only),
    ("foreign", "a state directory of another user", _foreign),
    ("others", "a state directory that others may write to", _open_to_others),
    ("full_disk", "a disk that fills up while serving, and room again later", _full),
    ("full_start", "a full disk when the workers begin", _full_at_start),
    ("file_limit", "files limited to 512 KiB", _limited),
    ("damaged_live", "tables, commands and app.json damaged while serving", _damaged_while_running),
    ("garbage", "tables and logs of a dead server replaced by garbage", _damaged_files(_garbage)),
    ("truncated", "tables and logs of a dead server cut off", _damaged_files(_truncated)),
    ("flipped", "one bit flipped in each table of a dead server", _damaged_files(_flipped)),
    ("vanished", "the state directory deleted while serving", _vanished),
)
