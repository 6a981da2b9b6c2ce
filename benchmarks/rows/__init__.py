"""The rows: one module per benchmark, each with ``run(quick) -> Outcome``."""
