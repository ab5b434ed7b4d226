"""One bucket of one view, as it is passed along while it is made fresh."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lakehouse.buckets.model import InstanceId, InstanceScope
from lakehouse.model import GLOBAL_INSTANCE
from lakehouse.ports import View


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is to be made, and of what."""

    view: View
    instance: InstanceId
    begin: datetime

    @property
    def scope(self) -> InstanceScope:
        return scope_of(self.view, self.instance.key.instance)

    @property
    def words(self) -> str:
        """For messages: which hour of what."""
        key = self.instance.key
        return (
            f"{key.view_set} of {key.instance} with what came in the hour or day from {self.begin:%Y-%m-%d %H:%M} (UTC)"
        )


def scope_of(view: View, instance: str) -> InstanceScope:
    """Which blocks belong to an instance of a view."""
    if instance == GLOBAL_INSTANCE:
        return InstanceScope(None, None, view.stream_tag)
    return InstanceScope(view.instance_kind, instance, view.stream_tag)
