"""The public classes that an application calls. They know no Flask."""
