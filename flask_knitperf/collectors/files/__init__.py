"""File reads by the readers of pandas and by ``open``, by file and line."""
