"""Stack samples and single requests of all workers: each worker saves its own, any process reads all.

Stack samples are stored in slices of time, see :mod:`..storage.slices`.
"""

from __future__ import annotations

import time
from pathlib import Path

from ..collectors.sampler.sample_buffer import SampleBuffer
from ..metrics.stack_trie import Tries, merge_documents, unpack
from ..recording.recorder import Recorder
from ..storage import exemplars, slices
from ..storage.exemplars import Exemplar
from ..storage.windows import Window

MIN_SAVE_INTERVAL_S = 5.0
MAX_SAVE_INTERVAL_S = 60.0
MAX_CPU_SHARE = 0.001  # of one core; samples that take long to save are saved less often
MERGE_INTERVAL_S = 60.0


class Details:
    """Saves the stack samples of one worker, and reads those of all workers.

    Args:
        recorder: of the worker.
        samples: its samples.
    """

    def __init__(self, recorder: Recorder, samples: SampleBuffer) -> None:
        self._recorder = recorder
        self._samples = samples
        self._slice: int | None = None
        self._saved = 0.0
        self._interval_s = MIN_SAVE_INTERVAL_S
        self._merged = 0.0
        recorder.on_change.append(self._start_over)

    def _start_over(self) -> None:
        """Drop the samples of a previous worker: a forked child must not save its parent's."""
        self._samples.clear()
        self._slice, self._saved = None, 0.0

    def turn(self) -> None:
        """Start a new slice when it is time, save the current one, merge old ones."""
        recorder = self._recorder
        now, run = recorder.clock.wall(), recorder.worker.run
        current = slices.begins(now)
        if self._slice is None:
            self._slice = self._free(run, current)
        if current != slices.begins(self._slice):
            self._save(run, self._slice)
            self._samples.clear()
            self._slice = self._free(run, current)
        elif self._samples.dirty and not 0 <= now - self._saved < self._interval_s:
            self._save(run, self._slice)
        if run is not None and not 0 <= now - self._merged < MERGE_INTERVAL_S:
            self._merged = now
            slices.merge_old(run, now, merge_documents, recorder.disk)

    def _free(self, run: Path | None, slice_: int) -> int:
        """Return a slice that this worker has not written: the clock may come to one a second time."""
        if run is None:
            return slice_
        return slices.free(run, self._recorder.worker.name, slice_)

    def close(self) -> None:
        """Save what is not saved yet. Without a state directory, nothing happens."""
        if self._slice is not None and self._recorder.has_worker:
            self._save(self._recorder.worker.run, self._slice)

    def _save(self, run: Path | None, slice_: int) -> None:
        self._saved = self._recorder.clock.wall()
        if run is None or not self._samples.dirty:
            return
        started = time.thread_time()
        worker = self._recorder.worker
        try:
            slices.save(run, worker.name, slice_, self._samples.document(), self._recorder.disk)
        except OSError as error:
            worker.degraded["details"] = f"samples cannot be saved: {error.strerror}"
            self._samples.dirty = True
            return
        worker.degraded.pop("details", None)
        interval_s = (time.thread_time() - started) / MAX_CPU_SHARE
        self._interval_s = min(MAX_SAVE_INTERVAL_S, max(MIN_SAVE_INTERVAL_S, interval_s))

    def read(
        self, run: Path | None, begin: float, end: float, degraded: list[str] | None = None
    ) -> Tries:
        """Return the stack samples of all workers in a period.

        Args:
            run: directory of the run, ``None`` for the samples in the memory of this process.
            begin: seconds since the epoch; a slice that overlaps the period counts as a whole.
            end: seconds since the epoch.
            degraded: receives a sentence on slices that could not be read.
        """
        if run is None:
            return _calibrated(unpack([self._samples.document()]))
        if self._slice is not None:
            self._save(run, self._slice)
        return read(run, begin, end, degraded)


def read(run: Path, begin: float, end: float, degraded: list[str] | None = None) -> Tries:
    """Return the stack samples of all workers of a run; see :meth:`Details.read`."""
    damaged: list[str] = []
    tries = unpack(slices.read(run, begin, end, damaged), damaged)
    if damaged and degraded is not None:
        degraded.append(f"slices of samples that are damaged and left out: {len(damaged)}")
    return _calibrated(tries)


def _calibrated(tries: Tries) -> Tries:
    return {
        pair: {kind: trie.calibrated() for kind, trie in kinds.items()}
        for pair, kinds in tries.items()
    }


def read_requests(
    run: Path, window: Window, now: float, endpoint: str | None = None, name: str | None = None
) -> list[Exemplar]:
    """Return the single requests that all workers of a run kept in a window.

    Args:
        run: directory of the run.
        window: receives a sentence on requests that could not be read.
        now: seconds since the epoch.
        endpoint: return those of one endpoint only.
        name: return that request only.
    """
    damaged: list[str] = []
    requests = exemplars.read(run, now, endpoint, name, damaged)
    if damaged:
        sentence = f"kept requests whose lines are damaged and left out: {len(damaged)}"
        window.snapshot.degraded.append(sentence)
    return exemplars.select(requests, window.since, window.until)
