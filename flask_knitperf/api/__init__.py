"""The classes that an application calls: they compose collectors and analysis, and know no Flask."""
