"""Recording: the span of a running request, the recorder, and the background thread of a worker."""
