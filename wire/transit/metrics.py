"""Metrics of a block: one row for each value, with the names that its properties may override."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from wire.transit import kernels
from wire.transit.columns import BoolArray, Codes, Float64Array, Int32Array, Int64Array
from wire.transit.dependencies import read_dependencies
from wire.transit.kernels import METRIC_FLOAT, METRIC_INTEGER, METRIC_PLAN_COLUMNS
from wire.transit.layout import RECORD_TYPES_MAX, Kind, StreamLayout
from wire.transit.objects import Objects, fixed_type, new_outcome, raise_fault, scan_objects
from wire.transit.tags import OrdinalColumn, PropertyColumn

_ACTIONS: Final = {
    "IntegerMetricEvent": (METRIC_INTEGER, False),
    "FloatMetricEvent": (METRIC_FLOAT, False),
    "TaggedIntegerMetricEvent": (METRIC_INTEGER, True),
    "TaggedFloatMetricEvent": (METRIC_FLOAT, True),
}


@dataclass(frozen=True, slots=True)
class MetricEvents:
    """Values in object order. An integer of the unit ``ticks`` is left as it is: its clock is not known here."""

    ticks: Int64Array  # absolute
    value: Float64Array  # integers widened
    integer: BoolArray
    raw: Int64Array  # the bits of an integer; of a float, its bits too
    name: Codes
    unit: Codes
    target: Codes
    properties: Codes  # canonical JSON
    skipped: int  # objects without a row


def read_metrics(layout: StreamLayout, dependencies: bytes, objects: bytes) -> MetricEvents:
    """Decode one block from its decompressed buffers.

    Raises:
        CorruptPayloadError: The buffers do not follow the type tables.
    """
    known = read_dependencies(layout.dependencies, dependencies)
    found = scan_objects(layout.objects, objects)
    plan, used = _plan(found)
    found.check_other_references(used, known)
    count = len(found)
    integer, ticks, raw = np.empty(count, np.uint8), np.empty(count, np.int64), np.empty(count, np.int64)
    subject, tags = np.empty(count, np.int32), np.empty(count, np.int32)
    outcome = new_outcome()
    rows = kernels.read_metrics(
        found.buffer,
        found.kinds,
        found.starts,
        plan,
        known.multiplier,
        known.slot_ids,
        known.slot_ordinals,
        integer,
        ticks,
        raw,
        subject,
        tags,
        outcome,
    )
    raise_fault(outcome)
    ticks, raw, subject, tags = ticks[:rows], raw[:rows], subject[:rows], tags[:rows]
    is_integer = integer[:rows].astype(np.bool_)
    value = raw.view(np.float64).copy()
    value[is_integer] = raw[is_integer].view(np.uint64).astype(np.float64)
    descriptions = OrdinalColumn(known, subject)
    properties = PropertyColumn(known, tags)

    def described(member: str) -> Codes:
        own = descriptions.texts(lambda ordinal: known.record(ordinal).text(member))
        return properties.override(member, own)

    name, unit, target = described("name"), described("unit"), described("target")
    return MetricEvents(ticks, value, is_integer, raw, name, unit, target, properties.json(), count - rows)


def _plan(objects: Objects) -> tuple[Int32Array, dict[int, set[int]]]:
    plan = np.zeros((RECORD_TYPES_MAX, METRIC_PLAN_COLUMNS), np.int32)
    used: dict[int, set[int]] = {}
    for type_index in objects.present:
        action = _ACTIONS.get(objects.table.types[type_index].name)
        if action is None:
            continue
        what, tagged = action
        fixed = fixed_type(objects, type_index)
        if fixed.stands_for is not None:
            continue
        kinds = (Kind.U64, Kind.I64) if what == METRIC_INTEGER else (Kind.F64,)
        value = fixed.need("value", *kinds).offset
        time = fixed.need("time", Kind.I64, Kind.U64).offset
        description = fixed.need("desc", Kind.REFERENCE).offset
        properties = fixed.need("properties", Kind.REFERENCE).offset if tagged else -1
        plan[type_index] = what, time, description, properties, value
        used[type_index] = {description, properties}
    return plan, used
