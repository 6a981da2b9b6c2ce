"""Rows of jobs in the report: work outside of requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..metrics.readings.rows import JobReading
from .values import in_ms, in_s, moment, rounded

if TYPE_CHECKING:
    from .documents import report as types

MAX_JOBS = 100  # rows of the report; a run's processes may have given more names than one may


def job_rows(jobs: Iterable[JobReading]) -> list[types.JobRow]:
    """Return the rows of jobs, largest total time first."""
    ranked = sorted(jobs, key=lambda job: (-job.runs.total, job.name))
    return [_job(job) for job in ranked[:MAX_JOBS]]


def _job(job: JobReading) -> types.JobRow:
    times = job.runs
    p50, p95 = times.quantiles((0.5, 0.95))
    failures = sorted(job.failures.items(), key=lambda item: (-item[1].count, item[0]))
    return {
        "name": job.name,
        "runs": times.count,
        "failed": sum(failed.count for _, failed in failures),
        "failures": {exception: failed.count for exception, failed in failures},
        "mean_ms": in_ms(times.mean),
        "max_ms": in_ms(times.high),
        "p50_ms": in_ms(p50),
        "p95_ms": in_ms(p95),
        "cpu_ms": in_ms(job.cpu.mean),
        "last": None if job.last is None else moment(job.last),
        "parts": _parts(job),
        "time_spent_s": in_s(times.total),
    }


def _parts(job: JobReading) -> list[types.JobPartRow]:
    ranked = sorted(job.parts.items(), key=lambda item: (-item[1].total, item[0]))
    return [
        {
            "name": name,
            "ms": in_ms(part.total / job.runs.count) or 0.0,
            "share": rounded(min(1.0, part.total / max(1, job.runs.total)), 4),
            "count": part.count,
        }
        for name, part in ranked if part.count
    ]  # fmt: skip
