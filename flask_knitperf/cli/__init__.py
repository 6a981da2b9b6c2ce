"""The command line: ``flask knitperf`` and ``python -m flask_knitperf``."""
