"""Details: what a worker sampled, kept in slices and read back for all workers.

See :mod:`..storage.slices` for how slices are kept.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..collectors.sampler.sample_buffer import SampleBuffer
from ..metrics.stack_trie import Tries, merge_documents, unpack
from ..recording.recorder import Recorder
from ..storage import exemplars, slices
from ..storage.exemplars import Exemplar
from ..storage.windows import Window

EVERY_S = 5.0
SHARE = 0.001
"""Of one core: what writing may cost; dear documents are written more rarely."""
_RAREST_S = 60.0
_TIDY_S = 60.0


class Details:
    """Keeps one worker's samples.

    Args:
        recorder: whose worker it is.
        samples: what is kept.
    """

    def __init__(self, recorder: Recorder, samples: SampleBuffer) -> None:
        self._recorder = recorder
        self._samples = samples
        self._slice: int | None = None
        self._saved = 0.0
        self._every = EVERY_S
        self._tidied = 0.0
        recorder.on_change.append(self._anew)

    def _anew(self) -> None:
        """Forget what belonged to a writer that is gone: a forked child has none of its parent's."""
        self._samples.clear()
        self._slice, self._saved = None, 0.0

    def turn(self) -> None:
        """Begin a new slice when it is time, write the present one, put old ones together."""
        recorder = self._recorder
        now, run = recorder.clock.wall(), recorder.worker.run
        present = slices.begins(now)
        if self._slice is None:
            self._slice = present
        if present != self._slice:
            self._save(run, self._slice)
            self._samples.clear()
            self._slice = present
        elif self._samples.dirty and not 0 <= now - self._saved < self._every:
            self._save(run, present)
        if run is not None and not 0 <= now - self._tidied < _TIDY_S:
            self._tidied = now
            slices.merge_old(run, now, merge_documents, recorder.disk)

    def close(self) -> None:
        """Write what was not written yet; without a directory there is nothing to do."""
        if self._slice is not None and self._recorder.has_worker:
            self._save(self._recorder.worker.run, self._slice)

    def _save(self, run: Path | None, slice_: int) -> None:
        self._saved = self._recorder.clock.wall()
        if run is None or not self._samples.dirty:
            return
        began = time.thread_time()
        worker = self._recorder.worker
        try:
            slices.save(run, worker.name, slice_, self._samples.document(), self._recorder.disk)
        except OSError as error:
            worker.degraded["details"] = f"samples cannot be saved: {error.strerror}"
            self._samples.dirty = True
            return
        worker.degraded.pop("details", None)
        self._every = min(_RAREST_S, max(EVERY_S, (time.thread_time() - began) / SHARE))

    def read(
        self, run: Path | None, begin: float, end: float, degraded: list[str] | None = None
    ) -> Tries:
        """Return what all workers sampled in a stretch of time.

        Args:
            run: the run's directory, ``None`` for what this process has in memory.
            begin: seconds since the epoch; a slice that overlaps counts whole.
            end: likewise.
            degraded: a sentence on what was left out is added here.
        """
        if run is None:
            return _agreed(unpack([self._samples.document()]))
        if self._slice is not None:
            self._save(run, self._slice)
        return read(run, begin, end, degraded)


def read(run: Path, begin: float, end: float, degraded: list[str] | None = None) -> Tries:
    """Return what all workers of a run sampled; see :meth:`Details.read`."""
    damaged: list[str] = []
    documents: list[dict[str, Any]] = slices.read(run, begin, end, damaged)
    tries = unpack(documents, damaged)
    if damaged and degraded is not None:
        degraded.append(f"slices of samples that are damaged and left out: {len(damaged)}")
    return _agreed(tries)


def _agreed(tries: Tries) -> Tries:
    return {
        pair: {kind: trie.calibrated() for kind, trie in kinds.items()}
        for pair, kinds in tries.items()
    }


def read_requests(
    run: Path, found: Window, now: float, endpoint: str | None = None, name: str | None = None
) -> list[Exemplar]:
    """Return the single requests that all workers of a run kept in a window.

    Args:
        run: the run's directory.
        found: the window; a sentence on what was left out is added to it.
        now: seconds since the epoch.
        endpoint: return those of one endpoint only.
        name: return that one only.
    """
    damaged: list[str] = []
    kept = exemplars.read(run, now, endpoint, name, damaged)
    if damaged:
        said = f"kept requests whose lines are damaged and left out: {len(damaged)}"
        found.snapshot.degraded.append(said)
    return exemplars.select(kept, found.begins, found.ends)
