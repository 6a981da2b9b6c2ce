"""The sampling profiler: stacks of requests in flight."""
