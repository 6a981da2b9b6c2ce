"""The composition root: one session per application connects all parts."""
