"""Waits of requests for something that has a name: services, hosts, programs, sleeps, thread pools."""
