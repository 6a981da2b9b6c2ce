"""File reads: what pandas reads and what views open, by file and line."""
