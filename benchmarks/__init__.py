"""The proof: every figure that issue, README and docs name, measured here and nowhere else.

``python -m benchmarks`` measures all of them at full size and writes ``docs/benchmarks``.
"""
