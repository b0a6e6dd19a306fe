"""A persistent priority queue of integers: adding and taking give a new queue and leave the old one whole.

A leftist heap: every operation touches O(log n) nodes, whichever old version it starts from, so that a decision that is thrown
away and made again costs no more than the first time.
"""

from typing import NamedTuple


class Node(NamedTuple):
    rank: int
    """Length of the right spine."""
    value: int
    left: "Node | None"
    right: "Node | None"


Heap = Node | None
EMPTY: Heap = None


def push(heap: Heap, value: int) -> Node:
    return _merge(Node(1, value, None, None), heap)  # type: ignore[return-value]  # never None: one side is a node


def pop(heap: Node) -> tuple[int, Heap]:
    """The smallest value, and the queue without it."""
    return heap.value, _merge(heap.left, heap.right)


def _merge(a: Heap, b: Heap) -> Heap:
    # Recursion goes down right spines only, which are at most log2(n + 1) long: 14 for 10,000 jobs.
    if a is None:
        return b
    if b is None:
        return a
    if b.value < a.value:
        a, b = b, a
    merged = _merge(a.right, b)
    left_rank = 0 if a.left is None else a.left.rank
    right_rank = 0 if merged is None else merged.rank
    if left_rank >= right_rank:
        return Node(right_rank + 1, a.value, a.left, merged)
    return Node(left_rank + 1, a.value, merged, a.left)
