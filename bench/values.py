"""Documents without a network: a local operation with its bytes, and the same taken in from a frame, by type.

Reference: what no replicated value can do without: pack key and value, unpack them, put them in a dict.
CPU time, best of three, so that a busy machine does not blur it.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import msgspec

from crdt import Change, Document

OPERATIONS = 20_000
FRAME_ITEMS = 256
WALL_MS = 1_700_000_000_000

TYPES: dict[str, Callable[[Document, int], None]] = {
    "counter": lambda doc, at: doc.counter("hits").increment(3),
    "set add": lambda doc, at: doc.set("s").add(f"k{at}"),
    "map put": lambda doc, at: doc.map("m").__setitem__(f"k{at % 1000}", at),
}


def reference() -> float:
    """Seconds an operation."""
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
    kept: dict[str, int] = {}
    began = time.process_time()
    for at in range(OPERATIONS):
        key, value = decode(encode((f"k{at % 1000}", at)))
        kept[key] = value
    return (time.process_time() - began) / OPERATIONS


def measure(write: Callable[[Document, int], None]) -> tuple[float, float, float]:
    """Seconds for a local operation, seconds for the same from a frame, bytes."""
    made: list[tuple[int, int, bytes]] = []
    doc = Document(
        "a" * 52,
        lambda: WALL_MS,
        lambda change: made.append((change.seq, change.hlc, change.item())),
        keep_history=False,
    )
    began = time.process_time()
    for at in range(OPERATIONS):
        write(doc, at)
    local = (time.process_time() - began) / OPERATIONS
    frames = [made[at : at + FRAME_ITEMS] for at in range(0, OPERATIONS, FRAME_ITEMS)]
    bodies = [b"\xdc" + len(each).to_bytes(2, "big") + b"".join(item for _, _, item in each) for each in frames]
    twin = Document("b", keep_history=False)
    began = time.process_time()
    for each, body in zip(frames, bodies, strict=True):
        twin.apply(Change.from_items(doc.actor, each[0][0], each[0][1], body, len(each)), events=False)
    remote = (time.process_time() - began) / OPERATIONS
    assert twin.digest() == doc.digest()
    return local, remote, sum(map(len, bodies)) / OPERATIONS


def element_bytes() -> float:
    """Memory of one set element."""
    members = Document("a", keep_history=False).set("s")
    tracemalloc.start()
    for at in range(50_000):
        members.add(f"key{at}")
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / 50_000


def main() -> None:
    """Print a line a type."""
    base = min(reference() for _ in range(3))
    print(f"reference, a packed and unpacked dict entry: {base * 1e6:.2f} us")
    for name, write in TYPES.items():
        rounds = [measure(write) for _ in range(3)]
        local, remote = min(each[0] for each in rounds), min(each[1] for each in rounds)
        print(
            f"{name:8}  local {local * 1e6:.2f} us ({local / base:.1f}x)  remote {remote * 1e6:.2f} us "
            f"({remote / base:.1f}x)  {rounds[0][2]:.1f} B an operation"
        )
    print(f"a set element: {element_bytes():.0f} B")


if __name__ == "__main__":
    main()
