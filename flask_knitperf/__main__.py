"""``python -m flask_knitperf report --state DIR``."""

from .cli.commands import offline

if __name__ == "__main__":
    offline(prog_name="python -m flask_knitperf")
