"""What one statement and one database of the engine may cost. Every number is a default that a caller may lower."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Limits of one worker. The parser's cost grows faster than the text, so most of them bound the text's shape."""

    sql_bytes_max: int = 1 << 20  # long lists of ids, and texts in them
    tokens_max: int = 64 << 10  # beyond it the parser alone takes seconds
    nodes_max: int = 60_000  # of the parse tree
    expression_depth_max: int = 250  # the engine's own default overflows a small stack
    tree_depth_max: int = 800  # a level of SQL nesting is two to four levels of the tree
    relations_max: int = 64  # planning doubles its time with every few relations
    relations_inlined_max: int = 512  # where NOT MATERIALIZED has an expression planned again for each of its uses
    view_instances_max: int = 64
    ctes_max: int = 256
    queries_max: int = 1_024  # of a UNION of them each is planned
    name_parts_max: int = 16  # of a.b.c: a nested field each
    lambda_depth_max: int = 8  # planning doubles with every level
    array_elements_max: int = 1 << 20  # of one value of a fixed-size array type; products overflow in the engine
    json_structure_depth_max: int = 48  # of what json_transform is told; the engine recurses over it
    json_structure_bytes_max: int = 64 << 10  # every name in it makes a column
    parameters_max: int = 1_000
    repairs_max: int = 64  # words of the other dialect that are mended in one statement
    plan_chars_max: int = 4 << 20  # of a plan that is read for time bounds, as JSON; past it nothing is bounded

    memory_bytes_max: int = 1 << 30
    spill_folder: str = ""  # where what does not fit goes; none: it fails
    spill_bytes_max: int = 0  # of one statement
    threads: int = 2
    async_threads: int = 2

    batch_rows_max: int = 65_536
    batch_bytes_max: int = (2 << 20) - (
        64 << 10
    )  # an IPC message of it, padding and header included, stays below 2 MiB
    statements_remembered_max: int = 256
    # Of all statements that are remembered; a parse tree takes some 300 bytes for each character.
    text_remembered_max: int = 128 << 10
    bound_text_remembered_max: int = 4 << 10  # characters of bound strings; with more, a statement is judged each time


DEFAULT_LIMITS = EngineLimits()
