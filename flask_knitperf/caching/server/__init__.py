"""A Redis or Valkey server behind the files of a host, for applications on several hosts.

::

    deadlines    connections of redis-py whose operations end in time
    connection   round trips to the server
    message      a value as signed bytes
    host_view    state that the processes of one host share: generations, and invalidations to be sent
    generations  invalidation on the server, and how a host learns of it
    watcher      the thread that keeps a process up to date
    round_trips  their counts
    level        everything together: look-ups, writes
    sharing      the values of one function

The server is looked up on a miss of process and host alone, so hits cost what they did. Nothing here
raises into a request: without the server each host has its own cache.
"""
