"""A finding is a sentence that a person who is no performance expert understands.

What hurts, in users ("1 in 20 users waits over 5.6 s"); why, by the top measured cause and its
line; what to do; and how sure that is. The texts are tables keyed by verdict and cause, so that a
new cause is a new row and no code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask_knitperf.core.totals import Totals

from .causes import Cause, why
from .reading import FileRead
from .summary import Endpoint, Part, rounded
from .verdicts import HALF, UNMATCHED, Verdict, verdicts

if TYPE_CHECKING:
    from flask_knitperf.core.settings import Settings

_OF_TIME = ("SLOW_RESPONSE", "MODERATE_RESPONSE", "HIGH_VARIANCE")
_COUNTED = {"REPEATED_FILE_READ": "reads found the file unchanged", "LARGE_RESPONSE": "answers"}
CERTAINTY = ((1e-6, "sure"), (1e-4, "very likely"), (0.01, "likely"), (1.0, "possible"))
"""The word for odds of an accident below a bound."""
FILES_NAMED = 4
"""Names of files that a sentence lists."""

ADVICE = {
    "own_cpu": "Profile its view and replace row-by-row loops by whole-column operations.",
    "waiting": "Find what it waits for (a service, a lock, a sleep) and shorten or cache it.",
    "gc": "Create fewer objects per request, or freeze long-lived ones with gc.freeze().",
    "gil_contention": "Use more worker processes, or move heavy computing out of the web workers.",
    "section": "Start with that section.",
    "early_hook": "Make that hook cheaper, or run it only where it is needed.",
    "sql": "Look at its queries: fewer, smaller, indexed.",
    "file_read": "Read those files once and cache them.",
    "cache": "Cache smaller values, or nearer to the worker.",
    "unknown": "Wrap its steps in perf.section(...) to see where the time goes.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry of ``bottlenecks[]``. See :class:`.verdicts.Judged` for units of the figures."""

    endpoint: str
    method: str
    type: str
    severity: str
    text: str
    observed: float | None
    threshold: float | None
    samples: int
    confidence: str
    why: list[Cause]
    recommendation: str
    time_spent_s: float
    saving: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of the report's schema."""
        return {name: getattr(self, name) for name in self.__slots__}


def findings(totals: Totals, rows: Iterable[Endpoint], settings: Settings) -> list[Finding]:
    """Return what is wrong, the worst first.

    Args:
        totals: those that ``rows`` were made of, for their evidence.
        rows: of :func:`.summary.endpoints`.
        settings: the thresholds.
    """
    evidence = totals.evidence
    return [_finding(v, evidence) for v in verdicts(rows, settings, evidence)]


def _finding(verdict: Verdict, evidence: Mapping[str, Mapping[str, Any]]) -> Finding:
    row, judged = verdict.row, verdict.judged
    causes, advice = _EXPLAIN.get(verdict.type, _explain_time)(verdict, evidence)
    sure = confidence(verdict)
    sentences = [f"{title(row.endpoint)}: {_HEADLINES[verdict.type](verdict)}."]
    if causes:
        sentences.append(_because(verdict, causes[0]))
    if row.law is not None and verdict.type in _OF_TIME:
        sentences.append(f"{grows(row.law.as_dict(row.moderate_ms))}.")
    sentences += [advice, f"{sure[:1].upper()}{sure[1:]}."]
    return Finding(
        endpoint=row.endpoint,
        method=row.method,
        type=verdict.type,
        severity=verdict.severity,
        text=" ".join(sentences),
        observed=rounded(judged.observed),
        threshold=rounded(judged.threshold),
        samples=judged.n,
        confidence=sure,
        why=causes,
        recommendation=advice,
        time_spent_s=round(row.time_spent_s, 3),
        saving=_saving(verdict),
    )


def confidence(verdict: Verdict) -> str:
    """Return how sure a verdict is, e.g. ``sure: 40 of 40 requests``."""
    judged = verdict.judged
    word = next(word for bound, word in CERTAINTY if judged.p <= bound)
    return f"{word}: {judged.bad:,} of {judged.n:,} {_COUNTED.get(verdict.type, 'requests')}"


def title(endpoint: str) -> str:
    """Return an endpoint's name as people say it: ``fabric_forecast`` is "Fabric forecast"."""
    if endpoint == UNMATCHED:
        return "Paths without a rule"
    words: list[str] = []
    for word in endpoint.replace(".", " ").replace("_", " ").replace("-", " ").split():
        if not words or words[-1] != word:
            words.append(word)
    name = " ".join(words) or endpoint
    return name[:1].upper() + name[1:]


def calm(row: Mapping[str, Any]) -> str:
    """Return what there is to say of an endpoint without a finding (a row of the report)."""
    if (row["max_ms"] or 0.0) > row["thresholds"]["moderate_ms"]:
        return "No verdict: what was slow may be an accident, or too few requests were judged."
    return "It keeps within its thresholds."


def grows(law: Mapping[str, Any]) -> str:
    """Return how time grows with rows (``size_law`` of the report) in words."""
    said = f"Its time grows with rows^{law['k']:.1f} ({law['low']:.1f} to {law['high']:.1f})"
    if law["passes_rows"] is None:
        return said
    return f"{said}; at {many(law['passes_rows'])} rows it passes {duration(law['passes_ms'])}"


def many(number: float) -> str:
    """Return a large number as people say it: ``2.1 M``, ``840,000``."""
    if number >= 1e6:
        return f"{number / 1e6:,.1f} M"
    return f"{round(number, -int(math.log10(max(1, number))) + 1):,}"


def duration(ms: float) -> str:
    """Return a time as people say it: ``5.6 s``, ``230 ms``, ``400 µs``."""
    if ms >= 100_000:
        return f"{ms / 1000:,.0f} s"
    if ms >= 995:
        return f"{ms / 1000:.1f} s"
    if ms >= 0.995:
        return f"{ms:.0f} ms" if ms >= 9.95 else f"{ms:.1f} ms"
    return f"{ms * 1000:.0f} µs"


def percent(share: float) -> str:
    """Return a share in words that never claim more than was seen: 99.96 % is not "100 %"."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{share:.0%}".replace("%", " %")


def one_in(bad: int, n: int) -> str:
    """Return a frequency as people say it: ``1 in 20``, ``every``."""
    if not bad:
        return "no"
    return "every" if bad >= n else f"1 in {max(2, round(n / bad))}"


def _waits(verdict: Verdict) -> str:
    judged = verdict.judged
    if judged.n < 20:  # too few to speak of one in twenty
        usual = (verdict.row.warm.quantile(0.5) or 0.0) / 1e6
        half = f", half of them {duration(usual)} or more" if usual > judged.threshold else ""
        return f"{judged.bad} of {judged.n} requests took over {duration(judged.threshold)}{half}"
    return f"1 in 20 users waits over {duration(judged.observed)}"


def _varies(verdict: Verdict) -> str:
    warm = verdict.row.warm
    usual, worst = (warm.quantile(0.5) or 0) / 1e6, (warm.quantile(0.99) or 0) / 1e6
    often = one_in(verdict.judged.bad, verdict.judged.n)
    return (
        f"usually it takes {duration(usual)}, but {often} requests is far slower, "
        f"up to {duration(worst)}"
    )


def _fails(verdict: Verdict) -> str:
    often = one_in(verdict.judged.bad, verdict.judged.n)
    killed = verdict.row.killed
    more = f" ({killed:,} killed by the server before an answer)" if killed else ""
    return f"{often} request{'s' if often.startswith('1') else ''} fails{more}"


def _slowed(verdict: Verdict) -> str:
    alone = verdict.row.alone
    usual = alone.quantile(0.95) if alone.count else None
    healthy = f"; alone it takes {duration(usual / 1e6)}" if usual is not None else ""
    by = verdict.culprit
    if by is None:
        name = "other requests in its worker"
    elif by == verdict.row.endpoint:
        name = "its own parallel requests"
    else:
        name = title(by)
        if verdict.culprit_share is not None:
            name += f" ({percent(verdict.culprit_share)} of what computed beside it)"
    return f"slowed by {name} to {duration(verdict.judged.observed)}{healthy}"


def _repeats(verdict: Verdict) -> str:
    took = duration(verdict.judged.observed)
    return f"each request spends {took} on reading files again that had not changed"


def _large(verdict: Verdict) -> str:
    return f"it answers {verdict.judged.observed:,.0f} KB at a time"


_HEADLINES: dict[str, Callable[[Verdict], str]] = {
    "REPEATED_FILE_READ": _repeats,
    "LARGE_RESPONSE": _large,
    "SLOW_RESPONSE": _waits,
    "MODERATE_RESPONSE": _waits,
    "HIGH_VARIANCE": _varies,
    "LOW_SUCCESS_RATE": _fails,
    "SLOWED_BY": _slowed,
}


def _start(words: str) -> str:
    return words[:1].upper() + words[1:]


def _because(verdict: Verdict, top: Cause) -> str:
    where = f" ({top['where']})" if top["where"] else ""
    if verdict.type == "LOW_SUCCESS_RATE":
        return f"{_start(percent(top['share']))} of the failures: {top['detail']}{where}."
    if top["cause"] == "unknown":
        return f"Where {percent(top['share'])} of its time goes was not measured."
    return f"{_start(percent(top['share']))} of its time is spent {top['detail']}{where}."


def _explain_time(verdict: Verdict, _: Mapping[str, Mapping[str, Any]]) -> tuple[list[Cause], str]:
    causes = why(verdict.row)
    top = causes[0]["cause"] if causes else "unknown"
    use = next(iter(verdict.row.uses), None)
    if use is not None and top in ("own_cpu", "section"):
        causes[0]["detail"] += f", much of it in {use.pattern.name}"
        causes[0]["where"] = use.where
        return causes, use.pattern.rewrite
    if top == "section":
        return causes, _advise_section(verdict.row.parts[0])
    return causes, ADVICE[top]


def _advise_section(part: Part) -> str:
    """Return where to begin in a section that computes, waits, or of which neither is known."""
    if part.name.startswith("render:"):
        return "Render less: fewer rows on a page, fewer macros and filters for each."
    if part.cpu is None:
        return ADVICE["section"]
    if part.cpu >= HALF:
        return "Start there: it computes; replace row-by-row loops by whole-column operations."
    return "Start there: it waits; find for what, and shorten or cache it."


def _explain_failures(
    verdict: Verdict, evidence: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Cause], str]:
    """Return the exceptions seen, and killed requests, as shares of the failures."""
    row, made = verdict.row, []
    for note in evidence.values():
        endpoint, _, error = str(note.get("key", "")).partition("\t")
        if note.get("kind") == "error" and endpoint == row.endpoint and error:
            where = (note.get("detail") or {}).get("where")
            made.append((int(note.get("count", 0)), error, where))
    if row.killed:
        made.append((row.killed, "killed by the server, mostly for taking too long", None))
    whole = max(row.failures, sum(count for count, _, _ in made), 1)
    causes: list[Cause] = [
        {"cause": "unknown", "share": int(count / whole * 1e4) / 1e4,
         "detail": error, "where": where}
        for count, error, where in sorted(made, key=lambda m: (-m[0], m[1]))
    ]  # fmt: skip
    if not causes:
        return [], "Look for its errors in the application's log."
    if causes[0]["where"]:
        return causes, f"Fix {causes[0]['detail']} at {causes[0]['where']}."
    return causes, f"Find out why: {causes[0]['detail']}."


def _explain_neighbour(
    verdict: Verdict, _: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Cause], str]:
    row, by = verdict.row, verdict.culprit
    share = row.contention_share
    if share is None and row.alone.mean and row.beside.mean:
        share = max(0.0, 1 - row.alone.mean / row.beside.mean)
    who = title(by) if by and by != row.endpoint else "other requests"
    causes: list[Cause] = []
    if share:
        causes = [{
            "cause": "gil_contention", "share": int(share * 1e4) / 1e4,
            "detail": f"waiting while {who} kept its worker busy", "where": None,
        }]  # fmt: skip
    if by is None or by == row.endpoint:
        return causes, ADVICE["gil_contention"]
    return causes, f"Leave it as it is; fix {title(by)}, or give it workers of its own."


def _explain_reads(verdict: Verdict, _: Mapping[str, Mapping[str, Any]]) -> tuple[list[Cause], str]:
    """Return the files that are read again, by the line that reads them."""
    row, lines = verdict.row, dict[str, list[FileRead]]()
    for read in row.reads:
        if read.unchanged:
            lines.setdefault(read.where, []).append(read)
    causes: list[Cause] = []
    for where, reads in lines.items():
        share = sum(read.avoidable_s for read in reads) / row.time_spent_s
        names = [read.path.rpartition("/")[2] for read in reads]
        shown = ", ".join(names[:FILES_NAMED]) + (" and others" if names[FILES_NAMED:] else "")
        count = f"{len(names)} unchanged files" if len(names) > 1 else "an unchanged file"
        causes.append({
            "cause": "file_read", "share": int(min(1.0, share) * 1e4) / 1e4,
            "detail": f"reading {count}: {shown}", "where": where or None,
        })  # fmt: skip
    causes.sort(key=lambda cause: -cause["share"])
    several = len([read for read in row.reads if read.unchanged]) > 1
    return causes, f"Read {'them' if several else 'it'} once and keep until changed."


def _explain_size(_: Verdict, __: Mapping[str, Mapping[str, Any]]) -> tuple[list[Cause], str]:
    return [], "Compress it, or send it in pages."


def _saving(verdict: Verdict) -> dict[str, Any] | None:
    """Return what was measured to be avoidable in this window, ``None`` where nothing was."""
    row = verdict.row
    if verdict.type != "REPEATED_FILE_READ":
        return None
    seconds = sum(read.avoidable_s for read in row.reads)
    return {
        "seconds": round(seconds, 3),
        "ms_per_request": rounded(verdict.judged.observed),
        "share": round(min(1.0, seconds / row.time_spent_s), 4),
    }


_EXPLAIN: dict[
    str, Callable[[Verdict, Mapping[str, Mapping[str, Any]]], tuple[list[Cause], str]]
] = {
    "LOW_SUCCESS_RATE": _explain_failures,
    "SLOWED_BY": _explain_neighbour,
    "REPEATED_FILE_READ": _explain_reads,
    "LARGE_RESPONSE": _explain_size,
}


def recommendations(found: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return each advice once, with the endpoints that it is for, in the findings' order."""
    by_text: dict[str, dict[str, Any]] = {}
    for finding in found:
        entry = by_text.setdefault(
            finding.recommendation,
            {"text": finding.recommendation, "severity": finding.severity,
             "endpoints": [], "types": []},
        )  # fmt: skip
        for name, value in (("endpoints", finding.endpoint), ("types", finding.type)):
            if value not in entry[name]:
                entry[name].append(value)
    return list(by_text.values())
