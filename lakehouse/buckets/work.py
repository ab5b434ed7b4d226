"""What a build worker does: the message of a job in, the message of its result out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lakehouse.buckets.build import build_bucket
from lakehouse.jobs.build import LocalBuild
from lakehouse.jobs.merge import KIND as MERGE
from lakehouse.jobs.merge import LocalMerge
from lakehouse.ports import View


def do(view_of: Callable[[str], View], message: dict[str, Any]) -> dict[str, Any]:
    """Build or merge, as the message says."""
    if message.get("kind") == MERGE:
        from lakehouse.buckets.merge_files import merge_files  # the edge names jobs, and reads no file

        merge = LocalMerge.from_message(message)
        return merge_files(view_of(merge.job.view_set), merge).to_message()
    build = LocalBuild.from_message(message)
    return build_bucket(view_of(build.job.view_set), build).to_message()
