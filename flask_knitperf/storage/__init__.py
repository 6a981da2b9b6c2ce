"""Storage: the state directory that all workers of an application write and every report reads."""
