"""Queries: every statement of a request, its shape and its line, whatever driver sent it."""
