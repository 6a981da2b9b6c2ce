"""Faults of disk, configuration and clocks: the application keeps answering.

A wrong option is a clear error at start. All other faults occur while real workers serve: an unusable
state directory, a full disk, damaged files, vanished files. Then every response must be the
application's, the report must still be served, and list what is degraded.
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

from ..harness.client import (
    MIX,
    Answer,
    Ledger,
    Load,
    counts,
    every_worker,
    impossible,
    report_within_limits,
)
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
    ("KNITPERF_IGNORE_PATHS", ["health"], "start with /"),
)


class Result(NamedTuple):
    """Behaviour of a server under load.

    Attributes:
        ledger: of the client.
        answer: the last report.
        wrong: errors, as sentences.
    """

    ledger: Ledger
    answer: Answer
    wrong: list[str]


Verdict = tuple[str, bool]
"""A text to print, and whether the server passed."""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    unclear = [error for case in WRONG if (error := _wrong_option(*case))]
    outcome.judge("bad_input.options", f"{len(WRONG)} unknown keys and wrong values", "a clear error "
                  "at start", f"{len(WRONG) - len(unclear)} clear", not unclear)  # fmt: skip
    outcome.notes += unclear
    total = 200 if quick else 3_000
    for name, what, case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            try:
                text, ok = case(Path(folder), total)
            except Exception as error:
                text, ok = f"{type(error).__name__}: {error}"[:200], False
        if text.startswith("skipped"):
            outcome.judge(f"bad_input.{name}", what, "answers, reports it", text, None)
            continue
        measured = "answered, reported" if ok else "see the notes"
        outcome.judge(f"bad_input.{name}", what, "answers, reports it", measured, ok)
        outcome.notes.append(f"{name}: {text.replace(folder, '…')}")
    bad_input_clocks.run(outcome, 500 if quick else 20_000)
    return outcome


def _wrong_option(key: str, value: Any, hint: str) -> str | None:
    """Return the flaw of the error that a wrong option raises, ``None`` if the error is clear."""
    app = Flask("wrong")
    app.config[key] = value
    try:
        KnitPerf(app)
    except ConfigurationError as error:
        text = str(error)
        return None if key in text and hint in text else f"{key}={value!r}: {text}"
    except Exception as error:
        return f"{key}={value!r}: {type(error).__name__}: {error}"
    return f"{key}={value!r} was accepted"


# -- serving ---------------------------------------------------------------------------------------


def _serve(server: Gunicorn, total: int, meanwhile: Callable[[], None] | None = None) -> Result:
    """Send the load to a running server; call ``meanwhile`` after a third of it."""
    load = Load(server.port, threads=4, total=total).start()
    if meanwhile is not None:
        while load.ledger.sent < total // 3:
            time.sleep(0.01)
        meanwhile()
    ledger = load.wait()
    time.sleep(2.5)
    answer = report_within_limits(server.port)
    wrong = [f"{what} × {count}" for what, count in ledger.unexpected.items()]
    if ledger.uncertain:
        wrong.append(f"{sum(ledger.uncertain.values())} requests broke")
    if answer.status != 200:
        wrong.append(f"the report has status {answer.status}")
    else:
        wrong += impossible(answer.document)
    return Result(ledger, answer, wrong)


def _degraded(result: Result) -> list[str]:
    document = result.answer.document
    return list(document["self"]["degraded"]) if result.answer.status == 200 else []


def _judge(result: Result, *, reports: str = "", exact: bool = False) -> Verdict:
    """Judge whether the application answered, and its report lists the degradation.

    Args:
        result: of the load.
        reports: part of the sentence that the report must list.
        exact: whether counts must be exact as well.
    """
    degraded = _degraded(result)
    wrong = list(result.wrong)
    if reports and not any(reports in sentence for sentence in degraded):
        wrong.append(f"the report does not list {reports!r}: {degraded}")
    if exact and not wrong:
        counted, expected = counts(result.answer.document), result.ledger.committed
        missing = {key: (count, counted[key]) for key, count in expected.items()
                   if counted[key] < count}  # fmt: skip
        if missing:
            wrong.append(f"not exact: {missing}")
    if wrong:
        return "; ".join(wrong)[:300], False
    text = f"all {result.ledger.sent:,} answered"
    return text + (", exact" if exact else "") + (f"; “{degraded[0]}”" if degraded else ""), True


# -- cases -----------------------------------------------------------------------------------------


def _unwritable(folder: Path, total: int) -> Verdict:
    (folder / "file").write_text("")
    config = {"KNITPERF_STATE_DIR": str(folder / "file" / "state")}
    with Gunicorn(folder / "server", "--workers=2", config=config) as server:
        return _judge(_serve(server, total), reports="memory only")


def _read_only(folder: Path, total: int) -> Verdict:
    """The directory exists and is not writable; for root only a read-only disk has that effect."""
    server = Gunicorn(folder / "server", "--workers=2")
    server.state.mkdir()
    mounted = os.geteuid() == 0
    if mounted and not (_mount(server.state, "size=1m") and _mount(server.state, "remount,ro")):
        return "skipped: this needs tmpfs", False
    if not mounted:
        server.state.chmod(0o500)
    try:
        with server:
            return _judge(_serve(server, total), reports="not writable")
    finally:
        if mounted:
            subprocess.run(["umount", str(server.state)], check=False)


def _foreign(folder: Path, total: int) -> Verdict:
    state: Path = folder / "state"
    if os.geteuid() == 0:
        state.mkdir(mode=0o700)
        os.chown(state, 65534, 65534)
    else:
        state = Path("/usr")
    config = {"KNITPERF_STATE_DIR": str(state)}
    with Gunicorn(folder / "server", "--workers=2", config=config) as server:
        return _judge(_serve(server, total), reports="another user")


def _open_to_others(folder: Path, total: int) -> Verdict:
    server = Gunicorn(folder / "server", "--workers=2")
    server.state.mkdir()
    server.state.chmod(0o777)
    with server:
        return _judge(_serve(server, total), reports="other users may write")


def _full(folder: Path, total: int) -> Verdict:
    """A disk that fills up while workers serve; once there is room again no request may be missing."""
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
            result = _serve(server, total)
            result.ledger.committed.update(before.committed)
            full, ok = _judge(result, reports="No space left")
            filler.unlink()
            time.sleep(3)
            after = Result(result.ledger, report_within_limits(server.port), [])
            later, exact = _judge(after, exact=True)
            return f"{full}; with room again: {later}", ok and exact
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def _full_at_start(folder: Path, total: int) -> Verdict:
    """A disk with room for a few logs of eight when the workers start."""
    small = folder / "small"
    small.mkdir(mode=0o700)
    if not _mount(small, "size=300k"):
        return "skipped: this needs root and tmpfs", False
    try:
        config = {"KNITPERF_STATE_DIR": str(small / "state"), **_RELEASE}
        with Gunicorn(folder / "server", "--workers=8", config=config) as server:
            return _judge(_serve(server, total), reports="No space left")
    finally:
        subprocess.run(["umount", str(small)], check=False)


def _mount(folder: Path, options: str) -> bool:
    words = ["mount", "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", str(folder)]
    with suppress(OSError):
        return subprocess.run(words, check=False, capture_output=True).returncode == 0
    return False


def _limited(folder: Path, total: int) -> Verdict:
    """Files are limited to 512 KiB, so no log can be created."""
    program = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19)); "
        "sys.argv = sys.argv[1:]; runpy.run_module('gunicorn', run_name='__main__', alter_sys=True)"
    )
    with Gunicorn(folder, "--workers=2", launcher=("-c", program, "gunicorn")) as server:
        return _judge(_serve(server, total), reports="kept in memory only")


def _run_of(server: Gunicorn) -> Path:
    return runs.runs(server.state)[-1]


def _fill(server: Gunicorn) -> None:
    """Send requests until workers have folded tables as well as logs."""
    mix = tuple(kind for kind in MIX if kind.path not in ("/busy", "/waits"))
    Load(server.port, total=12_000, mix=mix).start().wait()
    time.sleep(1.5)


def _damaged_while_running(folder: Path, total: int) -> Verdict:
    """Tables become garbage under a running server; the next fold restores them."""
    with Gunicorn(folder, "--workers=4", config=_RELEASE) as server:
        _fill(server)
        tables = list(_run_of(server).glob("w-*.table"))

        def meanwhile() -> None:
            for path in tables:
                path.write_bytes(b"garbage")
            for name in ("commands.log", "app.json"):
                (_run_of(server) / name).write_bytes(b"\xff\x00{not json")

        text, ok = _judge(_serve(server, total, meanwhile))
        return f"{text} ({len(tables)} tables)", ok and bool(tables)


def _damaged_files(damage: Callable[[Path], None]) -> Callable[[Path, int], Verdict]:
    """Return a case that kills a server, damages its files, and goes on in the same run."""

    def case(folder: Path, total: int) -> Verdict:
        with Gunicorn(folder, "--workers=4", config=_RELEASE) as server:
            _fill(server)
            for pid in [server.pid, *server.workers()]:
                os.kill(pid, signal.SIGKILL)
        files = sorted(path.suffix for path in _run_of(server).glob("w-*"))
        damage(_run_of(server))
        with Gunicorn(folder, "--workers=4", config=_RELEASE) as server:
            result = _serve(server, total)
            text, ok = _judge(result)
            own = result.answer.document["self"]
        if ".table" not in files or ".log" not in files:
            return f"no file to damage: {files}", False
        reported = own["degraded"] or own["dropped"]
        text = f"{text}; dropped {own['dropped']}"
        return (text, ok) if reported or not ok else (f"{text}, but not reported", False)

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


def _vanished(folder: Path, total: int) -> Verdict:
    with Gunicorn(folder, "--workers=4", config=_RELEASE) as server:
        result = _serve(server, total, lambda: shutil.rmtree(server.state, ignore_errors=True))
        text, ok = _judge(result)
        reported = _degraded(result)
        return (text, ok) if reported or not ok else (f"{text}, but not reported", False)


CASES: tuple[tuple[str, str, Callable[[Path, int], Verdict]], ...] = (
    ("unwritable", "a state directory that cannot be created", _unwritable),
    ("read_only", "a state directory without write permission", _read_only),
    ("foreign", "a state directory of another user", _foreign),
    ("others", "a state directory that others may write to", _open_to_others),
    ("full_disk", "a disk that fills up while serving, and room again later", _full),
    ("full_start", "a full disk when the workers start", _full_at_start),
    ("file_limit", "files limited to 512 KiB", _limited),
    ("damaged_live", "tables, commands and app.json damaged while serving", _damaged_while_running),
    ("garbage", "tables and logs of a dead server replaced by garbage", _damaged_files(_garbage)),
    ("truncated", "tables and logs of a dead server cut off", _damaged_files(_truncated)),
    ("flipped", "one bit flipped in each table of a dead server", _damaged_files(_flipped)),
    ("vanished", "the state directory deleted while serving", _vanished),
)
