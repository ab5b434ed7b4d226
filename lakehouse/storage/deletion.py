"""Deletes objects of which some may be refused, such as one that somebody has put under a hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import structlog

from lakehouse.errors import BackendUnavailableError
from lakehouse.ports import ObjectStore

log = structlog.get_logger(__name__)

T = TypeVar("T")


async def delete_each(store: ObjectStore, step: str, objects: Sequence[tuple[T, str]]) -> list[T]:
    """Those that are gone. One that the store refuses to delete, which is found again in every batch, keeps no other."""
    try:
        await store.delete([path for _, path in objects])
    except BackendUnavailableError:
        errors = await asyncio.gather(*(store.delete([path]) for _, path in objects), return_exceptions=True)
        failed = [(path, error) for (_, path), error in zip(objects, errors, strict=True) if error is not None]
        for path, error in failed[:1]:  # all of them, if the store is away
            log.warning("maintenance.failed", step=step, reason=str(error), object=path, objects=len(failed))
        return [id_ for (id_, _), error in zip(objects, errors, strict=True) if error is None]
    return [id_ for id_, _ in objects]
