"""``flask knitperf alerts …``: rules and what fires, test messages, backtests, silences."""

from __future__ import annotations

import time

import click
from flask.cli import with_appcontext

from ..alerts.channels import DeliveryError
from ..alerts.messages import observation
from ..alerts.rules import sentence
from ..render import alerts_text
from ..reports.values import moment
from ..runtime.alert_jobs import AlertJobs
from .console import WithApplication, json_option, print_document, print_text, session
from .history import age_option

_DAY = 86_400


@click.group("alerts", cls=WithApplication)
def alerts() -> None:
    """Show, test and silence alerts."""


def _jobs() -> AlertJobs:
    jobs = session().alerts
    if jobs is None:
        raise click.ClickException(
            "this application has no alerts: KNITPERF_ALERTS or KNITPERF_HISTORY is False"
        )
    return jobs


@alerts.command("list")
@age_option("--since", default="24h")
@json_option
@with_appcontext
def show(since: float, as_json: bool) -> None:
    """Show what fires, all rules, and how often each fired."""
    document = _jobs().report(since, time.time())
    print_document(document, as_json, alerts_text.alerts(document))


@alerts.command("test")
@click.argument("channel", required=False)
@with_appcontext
def test(channel: str | None) -> None:
    """Send a test message to one channel, or to all."""
    jobs, results = _jobs(), []
    message = jobs.test_message()
    for receiver in jobs.receivers():
        if channel in (None, receiver.name):
            error = ""
            try:
                receiver.channel.send(message)
            except DeliveryError as failure:
                error = str(failure)
            results.append((receiver.name, error))
    if not results:
        raise click.ClickException(f"there is no channel {channel!r}")
    print_text(alerts_text.tested(results))
    if any(error for _, error in results):
        raise SystemExit(1)


@alerts.command("backtest")
@click.argument("rule")
@age_option("--since", default="7d")
@with_appcontext
def backtest(rule: str, since: float) -> None:
    """Show when a rule would have fired; rows by the minute are kept for a week."""
    result = _jobs().backtest(rule, since, time.time())
    rows = [
        (moment(one.begins), -1.0 if one.ends is None else (one.ends - one.begins) / 60,
         one.subject, observation(result.rule, one.observed, one.events))
        for one in result.fired
    ]  # fmt: skip
    print_text(alerts_text.backtest(rule, sentence(result.rule), moment(since), rows))


@alerts.command("silence")
@click.argument("rule", required=False, default="")
@click.option("--subject", default="", help="One endpoint, such as 'GET orders', or one host.")
@age_option("--for", "seconds", default="2h", is_length=True)
@click.option("--reason", default="", help="Shown on the page.")
@click.option("--end", type=int, help="Number of a silence to end.")
@with_appcontext
def silence(rule: str, subject: str, seconds: float, reason: str, end: int | None) -> None:
    """Send no messages of one rule, or of all, for a while; alerts are still recorded."""
    jobs = _jobs()
    if end is not None:
        if not jobs.end_silence(end):
            raise click.ClickException(f"there is no silence {end}")
        print_text("The silence has ended.")
        return
    known = [row["name"] for row in jobs.report(time.time() - _DAY, time.time())["rules"]]
    if rule and rule not in known:
        raise click.ClickException(f"there is no rule {rule!r}; rules are {', '.join(known)}")
    jobs.silence(rule, subject, seconds, reason)
    print_text(alerts_text.silenced(rule, subject, seconds))
