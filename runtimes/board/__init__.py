"""Knowing boards: each probe is a file or a command and a pure parser of what it says.

A probe never fails and takes at most 5 s: what cannot be read is None with a reason (`runtimes.readings`).
"""
