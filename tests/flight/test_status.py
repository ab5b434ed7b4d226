"""Every kind of error has one status, and nothing but its sentence leaves the server."""

from __future__ import annotations

import grpc
import pytest

import lakeflight.wire.errors
import lakehouse.errors
from server.flight.status import MESSAGE_BYTES_MAX, STATUS, status_of


def family(root: type[Exception]) -> set[type[Exception]]:
    return {root}.union(*(family(child) for child in root.__subclasses__()))


def test_every_kind_of_error_has_a_status() -> None:
    lake = family(lakehouse.errors.LakeflightError) - {lakehouse.errors.LakeflightError}
    ours = {kind for kind in lake | family(lakeflight.wire.errors.WireError) if not kind.__module__.startswith("tests")}

    assert {kind for kind in ours if kind.__module__ in ("lakehouse.errors", "lakeflight.wire.errors")} == set(STATUS)
    assert all(any(base in STATUS for base in kind.__mro__) for kind in ours)


def test_no_status_is_one_that_adbc_cannot_tell_apart() -> None:
    vague = {"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNKNOWN"}

    assert not vague & {code.name for code in STATUS.values()}


@pytest.mark.parametrize(
    "error",
    [
        lakehouse.errors.InternalError("worker 7 died in /srv/secret.py"),
        RuntimeError("/srv/secret.py"),
        KeyError("secret"),
        lakehouse.errors.LakeflightError("secret"),
    ],
)
def test_a_fault_of_ours_is_told_by_its_id_alone(error: Exception) -> None:
    assert status_of(error, "abc") == (grpc.StatusCode.INTERNAL, "internal error (query_id=abc)")


def test_messages_are_one_short_line() -> None:
    _, message = status_of(lakehouse.errors.QueryError("first\n   second ☃" + "☃" * 4000), "abc")

    assert message.startswith("first second ☃")
    assert message.endswith("… (query_id=abc)")
    assert "\n" not in message
    assert len(message.encode()) <= MESSAGE_BYTES_MAX


def test_subclasses_are_told_as_their_nearest_kind() -> None:
    class PartitionConflictError(lakehouse.errors.BackendUnavailableError):
        pass

    assert status_of(PartitionConflictError("again"), "q") == (grpc.StatusCode.UNAVAILABLE, "again (query_id=q)")
