"""Real servers with real workers, on free ports."""
