"""SQL: every statement of a request, its fingerprint and its call site, whatever driver sent it."""
