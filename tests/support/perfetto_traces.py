"""Traces read back by Perfetto's own messages: tracks, and the slices on them, by the rules of its format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as messages

CLEARED, NEEDED = 1, 2  # sequence flags


class Slice(NamedTuple):
    """One that was begun and ended, with how many it lies in."""

    track: int
    name: str
    category: str
    file: str
    line: int
    begin: int
    end: int
    depth: int


@dataclass
class DecodedTrace:
    """A trace, packet by packet."""

    tracks: dict[int, Any] = field(default_factory=dict)  # TrackDescriptor by uuid
    slices: list[Slice] = field(default_factory=list)
    times_cleared: int = 0
    packets: int = 0


def decode(trace: bytes) -> DecodedTrace:
    """What a trace says.

    Raises:
        AssertionError: It breaks a rule: a packet refers to what was not told, an end closes another slice than the innermost of
            its track, a track's time goes backwards, or a slice stays open.
    """
    parsed = messages.Trace()
    parsed.ParseFromString(trace)
    parsed.DiscardUnknownFields()
    assert parsed.ByteSize() == len(trace), "it has fields that the format does not"
    found = DecodedTrace(packets=len(parsed.packet))
    categories: dict[int, str] = {}
    names: dict[int, str] = {}
    places: dict[int, Any] = {}
    stacks: dict[int, list[tuple[int, Any, Any]]] = {}
    times: dict[int, int] = {}
    for packet in parsed.packet:
        assert packet.trusted_packet_sequence_id == 1
        assert packet.sequence_flags in (NEEDED, CLEARED | NEEDED)
        if packet.sequence_flags & CLEARED:
            found.times_cleared += 1
            for told in (categories, names, places):
                told.clear()
        assert found.times_cleared, "the first packet clears the state"
        categories |= {entry.iid: entry.name for entry in packet.interned_data.event_categories}
        names |= {entry.iid: entry.name for entry in packet.interned_data.event_names}
        places |= {entry.iid: entry for entry in packet.interned_data.source_locations}
        if packet.HasField("track_descriptor"):
            assert packet.track_descriptor.uuid not in found.tracks
            found.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        if not packet.HasField("track_event"):
            continue
        event, time = packet.track_event, packet.timestamp
        assert event.track_uuid in found.tracks, "a track is described before it has events"
        assert times.get(event.track_uuid, 0) <= time
        times[event.track_uuid] = time
        stack = stacks.setdefault(event.track_uuid, [])
        if event.type == messages.TrackEvent.TYPE_SLICE_BEGIN:
            stack.append((time, event, places.get(event.source_location_iid)))
            assert event.source_location_iid == 0 or event.source_location_iid in places
            continue
        assert event.type == messages.TrackEvent.TYPE_SLICE_END
        begin, begun, place = stack.pop()
        assert (begun.name_iid, list(begun.category_iids)) == (event.name_iid, list(event.category_iids))
        found.slices.append(
            Slice(
                event.track_uuid,
                names[event.name_iid],
                "".join(categories[iid] for iid in event.category_iids),
                place.file_name if place else "",
                place.line_number if place else 0,
                begin,
                time,
                len(stack),
            )
        )
    assert not any(stacks.values()), "every slice is ended"
    return found
