"""The doors bytes come in by. At each: what must hold whatever they are, and honest bytes to begin from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import documents, histories, wire
from transport.frame import array_header


@dataclass(frozen=True)
class Target:
    """``run`` takes any bytes and raises only where a promise is broken; ``seeds`` makes honest ones."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _bodies() -> list[bytes]:
    changes = [each for each in documents.honest() if each.seq]
    return [array_header(1) + each.item() for each in changes]


TARGETS: dict[str, Target] = {
    "change": Target(documents.change, lambda: list(documents.reached()[1])),
    "items": Target(documents.items, _bodies),
    "snapshot": Target(documents.snapshot, documents.snapshots),
    "value": Target(documents.value, documents.values),
    "json": Target(documents.json, documents.texts),
    "history": Target(histories.history, histories.seeds),
    "frame": Target(wire.frame, lambda: [wire.sealed().raw]),
    "stub": Target(wire.stub, lambda: [wire.sealed().stub()]),
    "message": Target(wire.message, wire.messages),
    "member": Target(wire.member, lambda: list(wire.records())),
    "folded": Target(wire.folded, wire.snapshots),
    "handshake": Target(wire.handshake, lambda: list(wire._talk())),
}
