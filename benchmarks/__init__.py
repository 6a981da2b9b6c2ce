"""Every figure that issues, README and docs publish, measured here and nowhere else.

``python -m benchmarks`` measures all of them at full size and writes ``docs/benchmarks``.

- ``rows``: one module per benchmark, each with ``run(quick) -> Outcome``;
- ``harness``: the tools that they share;
- ``frames``: the measurements of the row ``frames``, run once per version of pandas;
- ``corpus``: cases by authors who had not seen the detectors that are judged by them;
- ``results``: the files in ``docs/benchmarks``;
- ``figures``: the figures that README and docs print between markers;
- ``pictures``: the screenshots of README and docs;
- ``newcomer``: the page on how many files readers of the file names alone locate.
"""
