"""A Redis or Valkey server behind the files of a host, for applications on several hosts.

::

    connection   round trips with a deadline, by redis-py
    message      a value as signed bytes
    host_view    state that the processes of one host share: generations, and invalidations to be sent
    generations  invalidation on the server, and how a host learns of it
    watcher      the thread that keeps a process up to date
    level        everything together: look-ups, writes, counts
    sharing      the values of one function

The server is looked up on a miss of process and host alone, so hits cost what they did. Nothing here
raises into a request: without the server each host has its own cache.
"""
