"""``get_payload(process, stream, block)``: the stored bytes of a block, for whoever decodes them himself."""

from __future__ import annotations

from typing import Final

from lakehouse.engine.functions.declare import PayloadFunction

FUNCTION: Final = PayloadFunction(
    signature="get_payload(process_id VARCHAR, stream_id VARCHAR, block_id VARCHAR) -> BLOB",
    documentation="The payload of a block as it is stored, with the three ids that blocks has of it. Payloads are fetched for the rows"
    " that the statement computes: choose them with WHERE or LIMIT.",
)
