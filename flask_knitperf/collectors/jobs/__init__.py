"""Jobs: work outside of requests, such as commands, tasks of a queue and threads."""
