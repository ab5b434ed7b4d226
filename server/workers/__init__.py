"""Warm worker processes: untrusted SQL and undecoded blocks are handled there, and nowhere else.

The edge asks, a worker answers; what they say to each other is in ``protocol``, and nothing else passes between them
but the pages of a ring (``ring``). ``pool`` is the edge's side, ``zygote`` makes the processes, ``query_worker`` and
``build_worker`` run in them. This package has no SQL, no catalog and no store of its own. It imports nothing here, so
that a worker process loads only what it needs.
"""
