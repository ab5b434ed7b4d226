"""A call tree one event at a time, in plain Python: slow, and easy to check by reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Row = tuple[int, int, int, int, int, int]  # id, parent, depth, begin, end, scope
Event = tuple[int, int, int, int]  # kind (0 begin, 1 end), scope, time, id

ROOT = 0


@dataclass
class _Node:
    id: int | None
    scope: int
    begin: int
    end: int
    children: list[_Node] = field(default_factory=list)


class ReferenceTree:
    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end
        self.stack: list[_Node] = []
        self.repaired = 0

    def add_block(self, events: Iterable[Event]) -> None:
        for kind, scope, t, event_id in events:
            if t < self.begin:
                continue
            if t > self.end:
                return
            if kind == 0:
                self.stack.append(_Node(event_id, scope, t, self.end))
            else:
                self._close(event_id, scope, t)

    def _close(self, event_id: int, scope: int, t: int) -> None:
        if not self.stack:
            self._attach(_Node(event_id, scope, self.begin, t))
            return
        top = self.stack[-1]
        if top.scope == scope:
            self._end(t)
        elif top.scope == ROOT:
            top.id, top.scope = event_id, scope
            self._end(t)
        else:
            self.repaired += 1
            if any(node.scope == scope and node.id is not None for node in self.stack):
                while self.stack[-1].scope != scope:
                    self._end(t)
                self._end(t)

    def _end(self, t: int) -> None:
        node = self.stack.pop()
        node.end = t
        self._attach(node)

    def _attach(self, node: _Node) -> None:
        if self.stack:
            self.stack[-1].children.append(node)
        else:
            self.stack.append(_Node(None, ROOT, self.begin, self.end, [node]))

    def rows(self) -> list[Row]:
        stack = list(self.stack)
        while len(stack) > 1:
            node = stack.pop()
            stack[-1].children.append(node)
        return list(_preorder(stack[0])) if stack else []


def _preorder(top: _Node) -> Iterator[Row]:
    pending = [(top, 0, 0)]
    while pending:
        node, parent, depth = pending.pop()
        node_id = -1 if node.id is None else node.id
        yield (node_id, parent, depth, node.begin, node.end, node.scope)
        pending += [(child, node_id, depth + 1) for child in reversed(node.children)]
