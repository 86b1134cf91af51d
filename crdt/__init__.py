"""Values that agree, whatever the order of arrival: a document of typed objects, its changes, its snapshots.

Pure and in memory; usable without the rest. Imports nothing of ours. ``Document`` is where to start; ``causal`` is the
kernel under all types, and ``causal.register`` the door for new ones.
"""

from crdt.bounded import Bounded
from crdt.change import CHANGE_BYTES_MAX, Change
from crdt.clock import VectorClock
from crdt.counter import Counter
from crdt.cursor import Cursor
from crdt.document import Document
from crdt.errors import (
    ActorReused,
    BoundExceeded,
    CausalBufferFull,
    ChangeTooLarge,
    CrdtError,
    HistoryCut,
    InvalidBytes,
    InvalidValue,
    LogClosed,
    TransactionOpen,
    TypeClash,
    UnknownOperation,
)
from crdt.events import Conflict, Event, fold
from crdt.flag import Flag, StrictFlag
from crdt.list import List
from crdt.map import Map, Objects
from crdt.register import Multi, Register
from crdt.sets import Set, StrictSet
from crdt.text import Text
from crdt.value import DEPTH_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX, Value

__all__ = [
    "CHANGE_BYTES_MAX",
    "DEPTH_MAX",
    "KEY_BYTES_MAX",
    "VALUE_BYTES_MAX",
    "ActorReused",
    "BoundExceeded",
    "Bounded",
    "CausalBufferFull",
    "Change",
    "ChangeTooLarge",
    "Conflict",
    "Counter",
    "CrdtError",
    "Cursor",
    "Document",
    "Event",
    "Flag",
    "HistoryCut",
    "InvalidBytes",
    "InvalidValue",
    "List",
    "LogClosed",
    "Map",
    "Multi",
    "Objects",
    "Register",
    "Set",
    "StrictFlag",
    "StrictSet",
    "Text",
    "TransactionOpen",
    "TypeClash",
    "UnknownOperation",
    "Value",
    "VectorClock",
    "fold",
]
