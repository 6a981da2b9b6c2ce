"""The classes that an application calls: thin over the parts that do the work, and without Flask."""
