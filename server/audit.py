"""Compares what is materialized with what was sent, and has made again what differs.

Nothing should differ: looks find what is new by the ids of transactions. What does is a defect, or was changed by hand, and is
said in the log in any case.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

import structlog

from lakehouse.buckets.bucket import scope_of
from lakehouse.buckets.catalog import LakeCatalog
from lakehouse.buckets.planning import version_of
from lakehouse.failpoints import failpoint
from lakehouse.sources import SourceRegistry

log = structlog.get_logger(__name__)

INSTANCES_AT_ONCE: Final = 100


@dataclass(slots=True)
class Audit:
    """Goes through all instances; where one round ends the next goes on."""

    registry: SourceRegistry
    catalog: LakeCatalog
    _after: int = field(default=0, init=False)

    async def run(self, seconds_max: float) -> bool:
        """Whether it came to the end of them."""
        views = {version_of(view): view for view in self.registry.views}
        begun = time.monotonic()
        while time.monotonic() - begun < seconds_max:
            instances = await self.catalog.instances_after(list(views), self._after, INSTANCES_AT_ONCE)
            for instance in instances:
                scope = scope_of(views[instance.version], instance.key.instance)
                for bucket in await self.catalog.differing_buckets(instance, scope):
                    log.error(
                        "audit.differs",
                        view_set=instance.key.view_set,
                        instance=instance.key.instance,
                        bucket=bucket.begin.isoformat(),
                        made_of=bucket.made_of,
                        blocks=bucket.blocks,
                        frozen=bucket.frozen,
                    )
                    if not bucket.frozen:
                        await self.catalog.mark(instance, bucket.begin)
                        failpoint("audit")
                self._after = instance.vid
            if len(instances) < INSTANCES_AT_ONCE:
                self._after = 0
                return True
        return False
