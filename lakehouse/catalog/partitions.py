"""The catalog of view instances, buckets and partitions in Postgres. Decides nothing: ``lakehouse.buckets`` does.

Implements ``lakehouse.buckets.catalog.LakeCatalog``, a subject a class.
"""

from __future__ import annotations

from lakehouse.catalog.administered import Administered
from lakehouse.catalog.audit import Audit
from lakehouse.catalog.buckets import Buckets
from lakehouse.catalog.looks import Looks
from lakehouse.catalog.objects import Objects
from lakehouse.catalog.retention import Retention
from lakehouse.catalog.rows import Rows
from lakehouse.catalog.senders import Senders
from lakehouse.catalog.sweep import Sweep
from lakehouse.catalog.tasks import Tasks


class PartitionCatalog(Looks, Rows, Buckets, Administered, Objects, Retention, Audit, Sweep, Tasks, Senders):
    """All of it over one pool.

    Raises ``BackendUnavailableError`` when Postgres does not answer.
    """
