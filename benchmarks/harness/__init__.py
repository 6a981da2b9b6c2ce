"""Tools that the rows share: machine and outcome, CPU time in blocks, servers, clients, applications."""
