"""Commands to all workers of an application: submitted by one process, executed by each.

The housekeeper of each worker reads the log of commands (:mod:`..storage.commands`). Without a state
directory there is one worker only, so a command is executed at once by the process that submits it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.errors import KnitPerfError
from ..recording.recorder import Recorder
from ..storage.commands import Command, Inbox, check, send
from ..storage.snapshots import clear
from .memory_jobs import MemoryJobs

if TYPE_CHECKING:
    from ..collectors.sampler.sampler import Sampler
    from .warming_jobs import WarmingJobs


class WorkerCommands:
    """Submits and executes commands.

    Args:
        recorder: the recorder of the application.
        memory: executes ``collect`` and ``frames``.
        start_over: begins all windows now, for ``clear`` where there is no state directory.
        sampler: executes ``sample``, ``None`` where the sampler is switched off.
        warming: returns the jobs that execute ``warm``, ``None`` where the cache is not warmed.
    """

    def __init__(
        self,
        recorder: Recorder,
        memory: MemoryJobs,
        start_over: Callable[[], None],
        sampler: Sampler | None,
        warming: Callable[[], WarmingJobs | None] = lambda: None,
    ) -> None:
        self._recorder = recorder
        self._memory = memory
        self._start_over = start_over
        self._sampler = sampler
        self._warming = warming
        self._inbox: Inbox | None = None
        self._handlers: dict[str, Callable[[Command], None]] = {
            "collect": self._collect, "clear": self._clear, "sample": self._sample,
            "frames": self._frames, "warm": self._warm,
        }  # fmt: skip

    def submit(self, name: str) -> Command | None:
        """Submit a command to all workers; return ``None`` where it was executed at once.

        Raises:
            KnitPerfError: there is no such command.
            StateError: the log of commands cannot be written.
        """
        run, now = self._recorder.worker.run, self._recorder.clock.wall()
        if run is not None:
            return send(run, name, now)
        command = check(name, now)
        self._handlers[name](command)
        return None

    def process(self) -> None:
        """Execute the commands that were submitted since the last call."""
        worker = self._recorder.worker
        if worker.run is None:
            return
        if self._inbox is None or self._inbox.worker != worker.name:
            self._inbox = Inbox(worker.run, worker.name, self._handlers, worker.commands_from)
        self._inbox.turn()

    def _collect(self, _: Command) -> None:
        self._memory.collector.request()

    def _frames(self, _: Command) -> None:
        self._memory.list_frames()

    def _sample(self, _: Command) -> None:
        if self._sampler is None:
            raise KnitPerfError("stacks are not sampled here; see KNITPERF_SAMPLER")
        self._sampler.sample_in_detail()

    def _warm(self, command: Command) -> None:
        warming = self._warming()
        if warming is None:
            raise KnitPerfError("the cache is not warmed here; see KNITPERF_CACHE_WARM_SECONDS")
        warming.request(command)

    def _clear(self, command: Command) -> None:
        run = self._recorder.worker.run
        if run is None:
            self._start_over()
        else:
            snapshot = self._recorder.snapshot()
            recorder = self._recorder
            clear(run, command.id, snapshot, command.at, recorder.disk, recorder.clock.wall())
