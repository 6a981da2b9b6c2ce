"""The databases of the history."""

from tests.history.conftest import another, connection, database, host

__all__ = ["another", "connection", "database", "host"]
