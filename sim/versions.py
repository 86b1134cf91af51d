"""Other versions of the program, as a mesh of mixed ages meets them: the real node, and what it would say differently.

An *older* one does not know some kinds of link messages, and says so. A *newer* one says kinds that nobody knows yet,
puts fields into its changes that nobody knows yet, and can write operations that nobody understands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from mesh.messages import ConfirmAsk, Durable, DurableAsk, Evidence, Gone, LinkMessage, UnknownKind
from sim.byzantine import every, links_of, swap
from sim.faults import Fault
from transport.base import MILLISECOND, Lane
from transport.frame import is_signed_frame, seal
from transport.identity import LOG_BYTES

if TYPE_CHECKING:
    from sim.node import SimNode
    from sim.world import World

OLDER_LACKS: tuple[type[LinkMessage], ...] = (ConfirmAsk, Durable, DurableAsk, Evidence, Gone)
KIND_OF_TOMORROW, OPERATION_OF_TOMORROW = 0x5A, 99
FIELD_OF_TOMORROW = "a field of tomorrow"
SAYS_EVERY_NS = 200 * MILLISECOND


class _OfTomorrow:
    """A change with a field more than anybody knows."""

    def __init__(self, change: Any) -> None:
        self._change = change

    def item(self) -> bytes:
        fields = msgspec.msgpack.decode(self._change.item())
        fields += [[]] * (4 - len(fields))
        return msgspec.msgpack.encode([*fields, FIELD_OF_TOMORROW])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._change, name)


def older(world: World, node: SimNode, lacks: Iterable[type[LinkMessage]] = OLDER_LACKS) -> Fault:
    """Let ``node`` know nothing of these kinds of messages; each that comes counts. Its links are made anew."""
    fault = world.fault("older", node.name)
    if fault.muted:
        return fault
    runtime, kinds = node.node._runtime, {each.__struct_config__.tag for each in lacks}
    receive = runtime._on_frame

    def deaf(link: Any, lane: Lane, raw: bytes) -> None:
        if len(raw) > 1 and raw[1] in kinds and not is_signed_frame(raw):
            fault.fire()
            runtime._send(link.peer, UnknownKind(raw[1]))
            link.consumed(lane, len(raw))
        else:
            receive(link, lane, raw)

    def mute(peer: Any, message: Any, lane: Lane = Lane.CONTROL) -> bool:
        return True if message.__struct_config__.tag in kinds else bool(send(peer, message, lane))

    send = runtime._send
    undo, other = swap(runtime, "_on_frame", deaf), swap(runtime, "_send", mute)
    fault.undo_with(lambda: (undo(), other())[0])
    for link in links_of(node):
        link.close("closed")
    world.note("older", node.name)
    return fault


def newer(world: World, node: SimNode) -> Fault:
    """Let ``node`` say messages of a kind that nobody knows, five a second on each link, and put a field that nobody
    knows into each change it writes; each counts."""
    fault = world.fault("newer", node.name)
    if fault.muted:
        return fault
    doc = node.node._runtime.spaces._replica("main").doc
    committed = doc.on_change

    def say() -> None:
        for link in links_of(node):
            fault.fire()
            link.try_send(Lane.CONTROL, msgspec.msgpack.encode([KIND_OF_TOMORROW, "what for", 1]))

    def commit(change: Any) -> None:
        fault.fire()
        committed(_OfTomorrow(change))

    doc.on_change = commit
    stop = every(world, node, SAYS_EVERY_NS, say)

    def undo() -> None:
        doc.on_change = committed
        stop()

    fault.undo_with(undo)
    world.note("newer", node.name)
    return fault


def write_of_tomorrow(world: World, node: SimNode, stream: str) -> None:
    """A genuine frame of ``node`` on ``stream``, in a log of its own, whose first change holds an operation that nobody
    understands; a second frame follows it, which everybody would."""
    runtime = node.node._runtime
    log, head = world.seed.stream(f"versions/{node.name}").randbytes(LOG_BYTES), bytes(16)
    hlc = (world.loop.now // MILLISECOND) << 16
    counter = msgspec.msgpack.decode(_increment())
    for first, item in ((1, [0, 0, [[OPERATION_OF_TOMORROW, "x"]]]), (2, counter)):
        frame = seal(
            runtime.identity, runtime.mesh, stream=stream, log=log, first=first, count=1, hlc=hlc + first,
            previous=head, items=[msgspec.msgpack.encode(item)],
        )  # fmt: skip
        head = frame.digest
        for link in links_of(node):
            link.try_send(Lane.BROADCAST, frame.raw)


def _increment() -> bytes:
    from crdt import Document

    made: list[Any] = []
    Document("x", on_change=made.append).counter("after").increment()
    item: bytes = made[0].item()
    return item
