"""Metrics of a block: one row for each value, with the names that its properties may override."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lakeflight.wire.transit import kernels
from lakeflight.wire.transit.columns import BoolArray, Codes, Float64Array, Int64Array
from lakeflight.wire.transit.dependencies import DependencyPlan, Wanted, read_dependencies
from lakeflight.wire.transit.kernels import METRIC_FLOAT, METRIC_INTEGER, METRIC_PLAN_COLUMNS
from lakeflight.wire.transit.layout import Kind, StreamLayout, TypeTable
from lakeflight.wire.transit.records import (
    Plan,
    TypePlan,
    fixed_plan,
    fixed_type,
    new_outcome,
    other_plan,
    scan_records,
)

_ACTIONS: Final = {
    "IntegerMetricEvent": (METRIC_INTEGER, False),
    "FloatMetricEvent": (METRIC_FLOAT, False),
    "TaggedIntegerMetricEvent": (METRIC_INTEGER, True),
    "TaggedFloatMetricEvent": (METRIC_FLOAT, True),
}
_NAMES: Final = ("name", "unit", "target")  # of a description, and of the properties that override it
_WANTED: Final = Wanted(_NAMES, properties=_NAMES)


@dataclass(slots=True)
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
    known = read_dependencies(layout.dependencies.derived(_dependency_plan), dependencies)
    found = scan_records(layout.objects.derived(_plan), objects, "object")
    known.check_other_references(found)
    count = len(found)
    integer, ticks, raw = np.empty(count, np.uint8), np.empty(count, np.int64), np.empty(count, np.int64)
    name, unit, target = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count, np.int32)
    properties = np.empty(count, np.int32)
    outcome = new_outcome()
    rows = kernels.read_metrics(
        *(found.buffer, found.kinds, found.starts, found.plan.rows, *known.index),
        *(known.sources, known.members, known.overrides),
        *(integer, ticks, raw, name, unit, target, properties, outcome),
    )
    known.raise_fault(outcome)
    raw = raw[:rows]
    is_integer = integer[:rows].astype(np.bool_)
    value = raw.view(np.float64).copy()
    value[is_integer] = raw[is_integer].view(np.uint64).astype(np.float64)
    return MetricEvents(
        ticks=ticks[:rows],
        value=value,
        integer=is_integer,
        raw=raw,
        name=known.text_column(name[:rows]),
        unit=known.text_column(unit[:rows]),
        target=known.text_column(target[:rows]),
        properties=known.json_column(properties[:rows]),
        skipped=count - rows,
    )


def _dependency_plan(table: TypeTable) -> DependencyPlan:
    return DependencyPlan(table, _WANTED)


def _plan(table: TypeTable) -> Plan:
    return Plan(table, METRIC_PLAN_COLUMNS, _plan_of)


def _plan_of(table: TypeTable, index: int) -> TypePlan:
    """Plan row: action, time, description, properties, value."""
    action = _ACTIONS.get(table.types[index].name)
    if action is None:
        return other_plan(table, index)
    what, tagged = action
    fixed = fixed_type(table, index)
    if fixed.stands_for is not None:
        return other_plan(table, index)
    kinds = (Kind.U64, Kind.I64) if what == METRIC_INTEGER else (Kind.F64,)
    value = fixed.need("value", *kinds).offset
    time = fixed.need("time", Kind.I64, Kind.U64).offset
    description = fixed.need("desc", Kind.REFERENCE).offset
    properties = fixed.need("properties", Kind.REFERENCE).offset if tagged else -1
    return fixed_plan(fixed, (what, time, description, properties, value), description, properties)
