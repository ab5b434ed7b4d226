"""The event queues inside a block: records driven by the stream's own type tables, and the columns made of them.

A block has two buffers. *Dependencies* are strings, descriptions and property sets under the addresses they had in the
program that sent them; *objects* are the events, which refer to dependencies by address. Reading is one compiled scan,
then gathers, and never Python per event. Every byte is hostile: each bound is checked, what can grow has a named limit,
and what does not fit is a ``CorruptPayloadError``.
"""
