"""Causes and advice of a verdict: measured reasons, the repair, and the time that it saves.

One function for each kind of verdict; the texts are tables, so that a new cause is a new row and no
code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..core.clock import NS_PER_MS
from ..metrics.catalogue import ErrorDetail, ErrorKey, PartKind, RepeatKind
from ..metrics.instruments import Note
from .callee_advice import Use
from .callee_table import LOCK, UNWATCHED, Covers
from .causes import HOOK_CAUSES, MIN_LINE_SHARE, Cause, CauseName, floor, is_named_wait, why
from .endpoints import Endpoint
from .file_reads import FileRead
from .habits import slow_query
from .hooks import WORDING
from .judged import MAJORITY, MIN_REQUESTS, Verdict
from .parts import Part
from .phrases import duration, percent, quoted, title
from .repeated_queries import avoidable_s, cause, judged_repeats, repair, with_repeats
from .savings import Avoidable, Basis
from .statements import Repeat
from .waits import advice as advise_wait
from .waits import avoidable_share as avoidable_wait

REPEAT_KINDS: dict[str, RepeatKind] = {
    "N_PLUS_ONE": RepeatKind.N_PLUS_ONE, "DUPLICATE_QUERIES": RepeatKind.DUPLICATES,
}  # fmt: skip
NO_ADVICE = ""  # where only the line is known
_SAMPLED = ("own_cpu", "waiting", "section")  # causes with an advice by callee
_IN_SAMPLES = ("own_cpu", "waiting", "gc", "gil_contention", "cpu_queue", "unknown")
"""Causes of the time in which a callee was sampled outside of parts."""
BASES: dict[RepeatKind, Basis] = {
    RepeatKind.N_PLUS_ONE: "n_plus_one", RepeatKind.DUPLICATES: "duplicates",
}  # fmt: skip
_REDUCIBLE: dict[CauseName, Basis] = {
    "sql": "sql", "file_read": "file_read", "gc": "gc", "cache": "cache",
    **dict.fromkeys(HOOK_CAUSES, "time"),
}  # fmt: skip
"""Causes whose advice reduces them; that of the others only leads to the reason."""
MAX_NAMED = 4  # files or statements that a sentence lists
ErrorNote = Note[ErrorKey, ErrorDetail]

ADVICE: dict[CauseName, str] = {
    "own_cpu": "Sampled stacks show the lines that take the time: KNITPERF_SAMPLER = True.",
    "cpu_queue": "Give the machine more cores, or run fewer busy processes on it.",
    "waiting": "Find out what it waits for (a service, a lock, a sleep); shorten or cache it.",
    "gc": "Create fewer objects per request, or freeze long-lived ones with gc.freeze().",
    "gil_contention": "Use more worker processes, or move heavy computing out of the web workers.",
    "section": "Start with that section.",
    "early_hook": WORDING[PartKind.HOOK].advice,
    "late_hook": WORDING[PartKind.AFTER].advice,
    "sql": "Reduce its queries: fewer, smaller, indexed.",
    "file_read": "Read those files once and cache them.",
    "cache": "Cache smaller values, or closer to the worker.",
    "unknown": "Wrap its steps in perf.section(...) to see where the time goes.",
}


class Explanation(NamedTuple):
    """Causes of a verdict, and its repair.

    Attributes:
        causes: the largest first.
        advice: sentences, empty where no repair is known.
        avoidable: the work that the repair concerns, ``None`` where it does not save time.
        reason: the cause that the sentence is about, ``None`` without causes.
    """

    causes: list[Cause]
    advice: str
    avoidable: Avoidable | None = None
    reason: Cause | None = None


class _Repair(NamedTuple):
    """Advice for the largest cause of an endpoint's time, with the work that it concerns."""

    advice: str
    avoidable: Avoidable | None = None


def explain(
    verdict: Verdict, errors: Sequence[ErrorNote], *, overloaded: bool = False
) -> Explanation:
    """Return the causes of a verdict, and the advice.

    Args:
        verdict: the verdict.
        errors: exceptions of the window.
        overloaded: whether the machine lacks cores, which is then a separate statement.
    """
    special = _EXPLAIN.get(verdict.type)
    explanation = special(verdict, errors) if special else _explain_time(verdict, overloaded)
    if explanation.reason is None and explanation.causes:
        return explanation._replace(reason=explanation.causes[0])
    return explanation


def _explain_time(verdict: Verdict, overloaded: bool) -> Explanation:
    causes, repeat = with_repeats(verdict.row, why(verdict.row))
    repair = _repair(verdict.row, causes, repeat)
    if len(causes) < 2 or causes[0].cause != "cpu_queue":
        return Explanation(causes, *repair)
    if overloaded:
        return Explanation(causes, *repair, reason=_largest_beside_queueing(causes))
    advice = " ".join(filter(None, (ADVICE["cpu_queue"], repair.advice)))
    return Explanation(causes, advice, repair.avoidable)


def _largest_beside_queueing(causes: Sequence[Cause]) -> Cause:
    return next((cause for cause in causes if cause.cause != "cpu_queue"), causes[0])


def _repair(row: Endpoint, causes: list[Cause], repeat: Repeat | None) -> _Repair:
    """Return the repair of the largest cause beside queueing, which gets the line of a costly call."""
    if not causes:
        return _Repair(ADVICE["unknown"])
    top = _largest_beside_queueing(causes)
    if repeat is not None:
        return _Repair(repair(repeat), Avoidable(BASES[repeat.kind], top.share))
    use = _use(row, top) if top.cause in _SAMPLED else None
    part = top.part if is_named_wait(top) else None
    if part is not None and (use is None or use.callee.covers != Covers.ALL):
        return _Repair(
            advise_wait(part, row.waits),
            Avoidable("time", avoidable_wait(part, row.waits, row.mean_ms or 0.0)),
        )
    if use is not None:
        _name_callee(top, use)
        if use.callee is UNWATCHED:
            return _Repair(use.callee.advice)  # it leads to the reason
        avoidable = Avoidable("time", _share_of(row, use, causes), not use.callee.removed)
        return _Repair(use.callee.advice, avoidable)
    if top.cause == "own_cpu" and row.sampled is not None:
        return _Repair(NO_ADVICE)  # its line is named; nothing else is known of it
    advice = _advise_section(row.parts[0]) if top.cause == "section" else ADVICE[top.cause]
    basis = _REDUCIBLE.get(top.cause)
    if top.cause in HOOK_CAUSES:
        run = next((use for use in row.uses if use.where == top.where), None)
        if run is not None:
            top.detail += f", much of it in {run.callee.name}"
            advice += f" {run.callee.advice}"
    return _Repair(advice, basis and Avoidable(basis, top.share, at_most=True))


def _name_callee(cause: Cause, use: Use) -> None:
    """Describe a cause by the call that takes its time."""
    cause.where = use.where
    if use.callee is UNWATCHED:
        cause.cause, cause.detail = "sql", "in queries of a database that is not watched"
    elif use.callee is not LOCK:  # which is the cause itself
        cause.detail += f", much of it in {use.callee.name}"


def _share_of(row: Endpoint, use: Use, causes: Sequence[Cause]) -> float:
    """Return the time of a callee as a share of the endpoint's time.

    It may be part of several causes: what it computes runs the garbage collector, and queues for a core.
    """
    assert row.sampled is not None  # the callee was seen there
    sampled = sum(cause.share for cause in causes if cause.cause in _IN_SAMPLES and not cause.part)
    sampled += sum(cause.share for cause in causes if cause.cause == "section")
    return min(sampled, use.avoidable / max(1, row.sampled.total))


def _use(row: Endpoint, cause: Cause) -> Use | None:
    """Return the callee at the line of a cause, or one elsewhere that takes a similar time.

    The lines of a loop over ``iterrows`` may each take longer than it does by itself.
    """
    at_line = next((use for use in row.uses if use.where == cause.where), None)
    largest = next(iter(row.uses), None)
    if at_line is not None or largest is None or row.sampled is None:
        return at_line
    line = next((line.total for line in row.lines if line.where == cause.where), 0)
    minimum = max(MAJORITY * line, MIN_LINE_SHARE * cause.share * row.sampled.total)
    return largest if largest.total >= minimum else None


def _advise_section(part: Part) -> str:
    """Return the advice for a section that computes, waits, or was not sampled."""
    if part.name.startswith("render:"):
        return "Render less: fewer rows per page, fewer macros and filters per row."
    if part.cpu is None:
        return ADVICE["section"]
    if part.cpu >= MAJORITY:
        return "Start there: it computes."
    return "Start there: it waits; find out for what, and shorten it or cache its result."


def _explain_failures(verdict: Verdict, errors: Sequence[ErrorNote]) -> Explanation:
    """Return the exceptions seen, and killed requests, as shares of the failures."""
    row = verdict.row
    reasons = [
        (note.count, note.key.exception, note.detail["where"])
        for note in errors
        if note.key.endpoint == row.endpoint
    ]
    if row.killed:
        reasons.append((row.killed, _reason_of_death(row), None))
    whole = max(row.failures, sum(count for count, _, _ in reasons), 1)
    causes = [
        Cause("unknown", int(count / whole * 1e4) / 1e4, error, where)
        for count, error, where in sorted(reasons, key=lambda m: (-m[0], m[1]))
    ]  # fmt: skip
    if not causes:
        return Explanation([], "Check the application's log for its errors.")
    if causes[0].where:
        return Explanation(causes, f"Fix {causes[0].detail} at {causes[0].where}.")
    return Explanation(causes, f"Find out the reason: {causes[0].detail}.")


def _reason_of_death(row: Endpoint) -> str:
    """Return why the worker of an endpoint's killed requests has ended, as far as their age shows it."""
    age_ms = (row.reading.killed.mean or 0.0) / NS_PER_MS
    if age_ms >= row.slow_ms:
        return "killed by the server, mostly for taking too long"
    return f"its worker ended after {duration(age_ms)}: sys.exit, a crash or a restart"


def _explain_killed(_: Verdict, __: Sequence[ErrorNote]) -> Explanation:
    """Return no cause: of a request that was killed only its age is known."""
    return Explanation([], (
        "Compare that with the server's timeout, and look for the kernel's out-of-memory killer in the "
        "system's log. Requests that end, and the sampled stacks, show where its time goes."
    ))  # fmt: skip


def _explain_neighbour(verdict: Verdict, _: Sequence[ErrorNote]) -> Explanation:
    row, by = verdict.row, verdict.culprit
    share = row.contention_share
    if share is None and row.solo.mean and row.concurrent.mean:
        share = max(0.0, 1 - row.solo.mean / row.concurrent.mean)
    who = title(by) if by and by != row.endpoint else "other requests"
    causes: list[Cause] = []
    if share:
        detail = f"waiting while {who} kept its worker busy"
        causes = [Cause("gil_contention", floor(share), detail)]
    if by is None or by == row.endpoint:
        return Explanation(causes, ADVICE["gil_contention"])
    within = (
        "; alone this endpoint is within its thresholds" if row.solo.count >= MIN_REQUESTS else ""
    )
    return Explanation(causes, f"Fix {title(by)}, or give it separate workers{within}.")


def _explain_reads(verdict: Verdict, _: Sequence[ErrorNote]) -> Explanation:
    """Return the re-read files, by the line that reads them."""
    row, lines = verdict.row, dict[str, list[FileRead]]()
    for read in row.file_reads:
        if read.unchanged:
            lines.setdefault(read.where, []).append(read)
    causes: list[Cause] = []
    for where, reads in lines.items():
        share = row.share(sum(read.avoidable_s for read in reads))
        names = [read.path.rpartition("/")[2] for read in reads]
        shown = ", ".join(names[:MAX_NAMED]) + (" and others" if names[MAX_NAMED:] else "")
        files = f"{len(names)} unchanged files" if len(names) > 1 else "an unchanged file"
        detail = f"reading {files}: {shown}"
        causes.append(Cause("file_read", floor(share), detail, where or None))
    causes.sort(key=lambda cause: -cause.share)
    avoidable = sum(read.avoidable_s for read in row.file_reads)
    return Explanation(causes, _advise_reads(row), Avoidable("file_read", row.share(avoidable)))


def _advise_reads(row: Endpoint) -> str:
    """Return the repair of repeated reads, with the share of time that an option would save."""
    several = sum(read.unchanged > 0 for read in row.file_reads) > 1
    files = (
        "Cache the files; reload them when they change."
        if several
        else "Cache the file; reload it when it changes."
    )
    reusable_s = sum(read.reusable_s for read in row.file_reads)
    if reusable_s and row.time_spent_s:
        share = percent(min(1.0, reusable_s / row.time_spent_s))
        return (
            f"{files} KNITPERF_REUSE_READS = True does that for what pandas reads, and saves about "
            f"{share} of its time."
        )
    if row.reuses_reads:
        return (
            f"{files} KNITPERF_REUSE_READS is on, and does not answer these reads: they are of other "
            "functions, or /perf/cache has the reason."
        )
    return files


def _explain_repeats(verdict: Verdict, _: Sequence[ErrorNote]) -> Explanation:
    """Return the repeated statements, by line."""
    row, kind = verdict.row, REPEAT_KINDS[verdict.type]
    repeats = judged_repeats(row, kind)
    avoidable = Avoidable(BASES[kind], row.share(avoidable_s(row, kind)))
    causes = [cause(row, repeat) for repeat in repeats]
    return Explanation(causes, repair(repeats[0]), avoidable)


def _explain_many(verdict: Verdict, _: Sequence[ErrorNote]) -> Explanation:
    """Return the statements that are sent most often, by line."""
    row = verdict.row
    often = sorted(row.statements, key=lambda statement: -statement.count)[:MAX_NAMED]
    causes = [
        _sql(
            row,
            statement.seconds,
            f"sending {statement.count / row.count:,.1f} per request: "
            f"{quoted(statement.fingerprint.text)}",
            statement.where,
        )
        for statement in often
    ]
    every = sum(statement.seconds for statement in row.statements)
    return Explanation(
        causes,
        "Combine queries that belong to one result, and cache results that do not change.",
        Avoidable("sql", row.share(every), at_most=True),
    )


def _explain_slow_query(verdict: Verdict, _: Sequence[ErrorNote]) -> Explanation:
    """Return the statement that is slow."""
    row = verdict.row
    statement = slow_query(row, verdict.judged.threshold)
    assert statement is not None  # its verdict rests on it
    cause = _sql(
        row,
        statement.seconds,
        f"waiting for one query: {quoted(statement.fingerprint.text)}",
        statement.where,
    )
    indexes = statement.fingerprint.missing_indexes(statement.rows)
    avoidable = Avoidable("sql", row.share(statement.seconds), at_most=True)
    advice = "Check its query plan (KNITPERF_EXPLAIN shows it); an index may be missing."
    if indexes:
        cause.detail += f", which {indexes[0].seen}"
        columns = ", ".join(indexes[0].columns)
        advice = f"Add an index on {indexes[0].table}({columns}): {indexes[0].statement}."
    elif statement.fingerprint.plan is not None:
        advice = "Fetch less: its plan has no table scan that an index would avoid."
    return Explanation([cause], advice, avoidable)


def _sql(row: Endpoint, seconds: float, detail: str, where: str) -> Cause:
    return Cause("sql", floor(row.share(seconds)), detail, where or None)


def _explain_unkeyed(verdict: Verdict, _: Sequence[ErrorNote]) -> Explanation:
    """Return the loads whose results are not cached, by line; and the repair of the longest ones."""
    row, causes = verdict.row, list[Cause]()
    for read in row.unkeyed_reads[:MAX_NAMED]:
        detail = f"loading {read.function}, which is not cached"
        share = floor(row.share(read.seconds))
        causes.append(Cause("cache", share, detail, read.where or None))
    first = row.unkeyed_reads[0]
    avoidable = Avoidable("cache", row.share(first.seconds), at_most=True)
    return Explanation(causes, f"{first.repair}.", avoidable)


def _explain_outdated(verdict: Verdict, _: Sequence[ErrorNote]) -> Explanation:
    """Return the repair of the most frequent outdated value: it costs no time, but it is wrong."""
    return Explanation([], f"{verdict.row.stale_values[0].repair}.")


def _explain_mismatch(verdict: Verdict, _: Sequence[ErrorNote]) -> Explanation:
    """Return the loads whose values are never read again, and the repair of the longest ones."""
    row = verdict.row
    causes = [
        Cause("cache", floor(row.share(one.seconds)), f"loading what the cache {one.cache} should have "
              "had", one.where or None)
        for one in row.mismatches[:MAX_NAMED]
    ]  # fmt: skip
    first = row.mismatches[0]
    avoidable = Avoidable("cache", row.share(first.seconds * first.repeated), at_most=True)
    return Explanation(causes, f"{first.repair}.", avoidable)


def _explain_size(_: Verdict, __: Sequence[ErrorNote]) -> Explanation:
    return Explanation([], "Compress it, or send it in pages.")


def _explain_leak(verdict: Verdict, _: Sequence[ErrorNote]) -> Explanation:
    """Return the command that finds the line: a serving application is never traced."""
    row = verdict.row
    writes = "" if row.method in ("GET", "HEAD") else f" --method {row.method} --allow-writes"
    command = f"flask knitperf leakhunt {row.rule or 'URL'}{writes}"
    return Explanation([], f"Run `{command}` to find the line.")


def _explain_collections(verdict: Verdict, _: Sequence[ErrorNote]) -> Explanation:
    """Return the share of its time in collections, and the command that measures a remedy."""
    row = verdict.row
    share = min(1.0, row.gc_own_ms / row.mean_ms) if row.mean_ms else 0.0
    causes = [Cause("gc", floor(share), "in garbage collections that its objects trigger")]
    advice = (
        "Create fewer lists and dicts per request. To measure what gc.freeze() would save, run "
        f"`flask knitperf gc {row.rule or 'URL'}`."
    )
    return Explanation(causes, advice, Avoidable("gc", share))


_EXPLAIN: dict[str, Callable[[Verdict, Sequence[ErrorNote]], Explanation]] = {
    "LOW_SUCCESS_RATE": _explain_failures,
    "REQUEST_KILLED": _explain_killed,
    "SLOWED_BY": _explain_neighbour,
    "REPEATED_FILE_READ": _explain_reads,
    "CACHE_PER_USER": _explain_unkeyed,
    "CACHE_STALE": _explain_outdated,
    "CACHE_KEY_MISMATCH": _explain_mismatch,
    "LARGE_RESPONSE": _explain_size,
    "LEAK_SUSPECTED": _explain_leak,
    "GC_PAUSES": _explain_collections,
    "N_PLUS_ONE": _explain_repeats,
    "DUPLICATE_QUERIES": _explain_repeats,
    "TOO_MANY_QUERIES": _explain_many,
    "SLOW_QUERY": _explain_slow_query,
}
