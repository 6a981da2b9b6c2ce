"""The demo from the command line: `python -m demo_app [serve|data|traffic|compare|plants]`.

Without arguments it does everything for a newcomer: data, a server, two stages of traffic, and the
URL to open.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence

from demo_app import compare, serve, tour
from demo_app.plants import Plan, describe, plan
from demo_app.settings import DemoError, Settings, default_folder
from demo_app.traffic import FULL, Request, requests

_Group = Callable[[argparse.ArgumentParser], None]
_ABOUT = "The demo mill: generated data, planted performance problems, a server and traffic."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the answer is the process's exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, "serve")
    options = _parser().parse_args(words)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped")
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo_app", description=_ABOUT)
    commands = parser.add_subparsers(required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str, *groups: _Group
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        for group in groups:
            group(added)
        return added

    text = "Serve the demo, drive traffic, print the page's address."
    served = command("serve", _serve, text, _mill, _mode, _mix, _server, _bounds)
    served.add_argument("--fixed", action="store_true", help="with every problem repaired")
    served.add_argument("--once", action="store_true", help="exit after the traffic")
    text = "of light traffic afterwards, so that memory grows (%(default)g)"
    served.add_argument("--minutes", type=float, default=tour.MINUTES, help=text)
    data = command("data", _data, "Generate the mill's data.", _mill)
    data.add_argument("--folder", help="where (DEMO_DATA)")
    sent = command("traffic", _traffic, "Drive traffic against a server.", _mill, _mix, _bounds)
    sent.add_argument("--url", default="http://127.0.0.1:8000", help="(%(default)s)")
    text = "Prove that sick and fixed answer the same; show both times."
    compared = command("compare", _compare, text, _mill, _mode, _mix, _server)
    compared.set_defaults(requests=400, clients=2)
    command("plants", _plants, "Print what is planted where.", _mill)
    return parser


def _mill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, help="moves the plants (DEMO_SEED, 0)")
    parser.add_argument("--scale", type=float, help="rows of the tables (DEMO_SCALE, 1)")


def _mode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bare", action="store_true", help="without the extension")


def _mix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=FULL, help="how many (%(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="senders (%(default)s)")
    parser.add_argument("--traffic-seed", type=int, default=0, help="order of the requests")


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gunicorn", action="store_true", help="gunicorn, not waitress")
    parser.add_argument("--workers", type=int, default=4, help="of gunicorn (%(default)s)")
    parser.add_argument("--timeout", type=int, default=30, help="its patience, s (%(default)s)")
    parser.add_argument("--threads", type=int, default=8, help="of waitress (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")


def _bounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=0.0, help="send no longer than this")
    parser.add_argument("--only", default="", help="roles, e.g. workbooks,ping")
    parser.add_argument("--stuck", action="store_true", help="also call the stuck report")


def _settings(options: argparse.Namespace) -> Settings:
    """Settings of the environment, overridden by the command line."""
    settings = Settings.read()
    if options.seed is not None or options.scale is not None:
        seed = settings.seed if options.seed is None else options.seed
        scale = settings.scale if options.scale is None else options.scale
        moved = settings.data == default_folder(settings.seed, settings.scale)
        data = default_folder(seed, scale) if moved else settings.data
        settings = dataclasses.replace(settings, seed=seed, scale=scale, data=data)
    bare = settings.bare or getattr(options, "bare", False)
    fixed = settings.fixed or getattr(options, "fixed", False)
    return dataclasses.replace(settings, bare=bare, fixed=fixed)


def _data(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if options.folder:
        settings = Settings.read({"DEMO_DATA": options.folder, **_words(settings)})
    tour.generate_data(settings)
    return 0


def _words(settings: Settings) -> dict[str, str]:
    return {"DEMO_SEED": str(settings.seed), "DEMO_SCALE": repr(settings.scale)}


def _listed(options: argparse.Namespace, plan_: Plan) -> list[Request]:
    only = [kind.strip() for kind in options.only.split(",") if kind.strip()]
    seed = options.traffic_seed
    return requests(plan_, options.requests, seed, stuck=options.stuck, only=only)


def _serving(options: argparse.Namespace) -> serve.Serving:
    return serve.Serving(
        options.gunicorn, options.workers, options.threads, options.timeout, options.port
    )


def _serve(options: argparse.Namespace) -> int:
    settings = _settings(options)
    listed = _listed(options, plan(settings.seed))
    minutes = 0.0 if options.only else options.minutes
    tour.run(
        settings,
        tour.Tour(
            _serving(options), listed, options.clients, options.seconds, minutes, options.once
        ),
    )
    return 0


def _traffic(options: argparse.Namespace) -> int:
    settings = _settings(options)
    listed = _listed(options, plan(settings.seed))
    tour.send("traffic", options.url, listed, options.clients, options.seconds)
    return 0


def _compare(options: argparse.Namespace) -> int:
    serve.end_on_terminate()
    settings = _settings(options)
    tour.generate_data(settings)
    listed = compare.listed(settings, options.requests, options.traffic_seed)
    comparison = compare.run(settings, _serving(options), listed, options.clients)
    print(comparison.table())
    wrong = comparison.differences()
    for line in wrong[:20]:
        print(f"DIFFERS  {line}")
    print(
        f"\n{len(listed)} requests: {len(listed) - len(wrong) - comparison.declared()} answers equal,"
        f" {comparison.declared()} differ as declared, {len(wrong)} differ"
    )
    return 1 if wrong else 0


def _plants(options: argparse.Namespace) -> int:
    print(describe(plan(_settings(options).seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
