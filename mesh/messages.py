"""Link messages: what two neighbours say to each other. Trusted as far as the link's peer, never relayed as they are.

MessagePack arrays with a tag in front, decoded into bounded types; what does not fit is the peer's fault. Signed
frames (``transport.frame``) are the other kind of thing on a link; their first byte tells them apart.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias, get_args

import msgspec
from msgspec import Meta

from transport.errors import PeerFault
from transport.identity import NodeId

KEY = Annotated[bytes, Meta(min_length=32, max_length=32)]
ORIGIN = Annotated[bytes, Meta(min_length=40, max_length=40)]
HASH = Annotated[bytes, Meta(min_length=16, max_length=16)]
SEQ = Annotated[int, Meta(ge=0, lt=1 << 42)]
STREAM = Annotated[str, Meta(min_length=1, max_length=128)]
TEXT = Annotated[str, Meta(max_length=256)]
NUMBER = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]

ENTRIES_MAX = 4096  # of one list in one message; longer ones are sent in several
RECORDS_MAX = 128  # of members in one message: each costs a signature check, 50 us
BODY_BYTES_MAX = 256 << 10  # an application's value
CHUNK_BYTES_MAX = 256 << 10  # of a snapshot
PARTS_AHEAD = 8  # of a snapshot, sent before the receiver pulls: 2 MiB
ABOUT_BYTES_MAX = 4096  # what travels beside a body: ``mesh.messaging.context``
ABOUT = Annotated[bytes, Meta(max_length=ABOUT_BYTES_MAX)]


class LinkMessage(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=False):
    """Root of them all. Trailing fields of a newer version are ignored."""


# -- membership and failure (swim) ---------------------------------------------------------------------------------


class Rumour(LinkMessage, frozen=True, tag=1):
    """``member`` is suspect or down at ``incarnation``, says ``accuser``. Alive and left are signed records instead.

    ``record``: the member's signed record, where the receiver may not know it (a new neighbour is told everything).
    """

    member: KEY
    incarnation: NUMBER
    down: bool
    accuser: KEY
    cause: TEXT = ""
    record: Annotated[bytes, Meta(max_length=4096)] = b""


class Records(LinkMessage, frozen=True, tag=2):
    """Members' signed records (``mesh.protocol.swim``), each as its member made it."""

    records: Annotated[list[Annotated[bytes, Meta(max_length=4096)]], Meta(max_length=RECORDS_MAX)]


class Probe(LinkMessage, frozen=True, tag=3):
    """Are you there? Answered by ``ProbeAck`` with the same number, at once."""

    number: NUMBER


class ProbeAck(LinkMessage, frozen=True, tag=4):
    """I am."""

    number: NUMBER


class ProbeFor(LinkMessage, frozen=True, tag=5):
    """Please probe ``target`` for me and tell me by ``ProbeVerdict`` what you saw."""

    number: NUMBER
    target: KEY


class ProbeVerdict(LinkMessage, frozen=True, tag=6):
    """Answer to ``ProbeFor``: the target answered me, my link to it is closed too, or I cannot say (silence)."""

    number: NUMBER
    target: KEY
    verdict: Annotated[str, Meta(max_length=16)]  # "alive", "closed", "silent", "unlinked"


# -- overlay (hyparview) -------------------------------------------------------------------------------------------


class Contact(LinkMessage, frozen=True, tag=10):
    """A member and where it was last reached."""

    node: KEY
    addresses: Annotated[list[Annotated[str, Meta(max_length=280)]], Meta(max_length=32)]


class Shuffle(LinkMessage, frozen=True, tag=11):
    """Some members I know; answered in kind."""

    contacts: Annotated[list[Contact], Meta(max_length=64)]
    answer: bool


class Disconnect(LinkMessage, frozen=True, tag=12):
    """I am about to close this link: ``cause`` is "evicted", "left", "replaced" or "banned"."""

    cause: Annotated[str, Meta(max_length=16)]


# -- broadcast and repair (plumtree, antientropy) --------------------------------------------------------------------


class Have(LinkMessage, frozen=True, tag=20):
    """Of this stream's log I hold everything up to ``seq``, whose chain head is ``head``."""

    stream: STREAM
    origin: ORIGIN
    seq: SEQ
    head: HASH


class IHave(LinkMessage, frozen=True, tag=21):
    """What I could send you and did not (lazy push, Plumtree): one entry a log, however many frames."""

    entries: Annotated[list[Have], Meta(max_length=ENTRIES_MAX)]


class Graft(LinkMessage, frozen=True, tag=22):
    """Send me this log from after ``after``, and push its origin's frames to me from now on."""

    stream: STREAM
    origin: ORIGIN
    after: SEQ


class Prune(LinkMessage, frozen=True, tag=23):
    """I get this origin's frames faster elsewhere: tell me of them by ``IHave`` only."""

    origin: ORIGIN


class Listen(LinkMessage, frozen=True, tag=33):
    """Tell me by ``IHave`` what you do not push to me (``on``), or no longer. Off when a link comes up."""

    on: bool


class Digest(LinkMessage, frozen=True, tag=24):
    """Hash of all logs I hold, their sequences and chain heads. Unequal: answered by ``Vector``."""

    hash: HASH
    ask: bool  # whether an answer is wanted when they are equal too


class Vector(LinkMessage, frozen=True, tag=25):
    """Logs I hold. ``whole``: all of them, so what is not named I lack; else only what changed since the last one."""

    entries: Annotated[list[Have], Meta(max_length=ENTRIES_MAX)]
    whole: bool


class Want(LinkMessage, frozen=True, tag=26):
    """Send me exactly the frames of this log after ``after`` that you hold (or a snapshot, where you cut it)."""

    stream: STREAM
    origin: ORIGIN
    after: SEQ


class SnapshotPart(LinkMessage, frozen=True, tag=27):
    """One part of a stream's signed snapshot; ``mesh.state`` says what is in the whole."""

    stream: STREAM
    transfer: NUMBER
    part: Annotated[int, Meta(ge=0, lt=65536)]
    parts: Annotated[int, Meta(ge=1, le=65536)]
    data: Annotated[bytes, Meta(max_length=CHUNK_BYTES_MAX)]


class SnapshotPull(LinkMessage, frozen=True, tag=34):
    """Of ``transfer`` I have room for the first ``parts`` parts, in all; the first ``PARTS_AHEAD`` come unasked."""

    transfer: NUMBER
    parts: Annotated[int, Meta(ge=1, le=1 << 17)]


class Durable(LinkMessage, frozen=True, tag=28):
    """Logs as far as my disk has them, for confirmation and the stable cut.

    ``number`` answers ``ConfirmAsk`` of that number; 0 answers ``DurableAsk``. These three also travel sealed, through
    others, between members that have no link (``Relayed``).
    """

    number: NUMBER
    entries: Annotated[list[Have], Meta(max_length=ENTRIES_MAX)]


class ConfirmAsk(LinkMessage, frozen=True, tag=29):
    """Tell me by ``Durable`` once your disk has ``origin`` up to ``seq``."""

    number: NUMBER
    stream: STREAM
    origin: ORIGIN
    seq: SEQ


class DurableAsk(LinkMessage, frozen=True, tag=32):
    """I want to fold these logs, and my disk has them so far. Tell me by ``Durable`` how far yours has them."""

    entries: Annotated[list[Have], Meta(max_length=ENTRIES_MAX)]


class Evidence(LinkMessage, frozen=True, tag=30):
    """Proof that ``origin`` equivocated: two authentic frames of its log over one sequence."""

    one: Annotated[bytes, Meta(max_length=1 << 19)]
    other: Annotated[bytes, Meta(max_length=1 << 19)]


class Gone(LinkMessage, frozen=True, tag=31):
    """What you asked for of this log begins, here, after ``seq``: the window of recent frames has moved on.

    Sent on the SYNC lane before the frames that are left. Believed only from whom was asked.
    """

    stream: STREAM
    origin: ORIGIN
    seq: SEQ


# -- direct messages -----------------------------------------------------------------------------------------------


class Send(LinkMessage, frozen=True, tag=40):
    """An application's message; handled at most once, not answered. ``body`` is MessagePack, ``about`` what travels
    beside it."""

    body: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]
    about: ABOUT = b""


class Request(LinkMessage, frozen=True, tag=41):
    """A question to the handler ``name``. ``budget_ms``: how long the asker still waits when this leaves it."""

    number: NUMBER
    name: TEXT
    budget_ms: NUMBER
    body: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]
    about: ABOUT = b""


class Reply(LinkMessage, frozen=True, tag=42):
    """Answer to ``Request``: ``error`` is empty, or the error's kind; then ``body`` is its text as MessagePack."""

    number: NUMBER
    error: TEXT
    body: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]


class Abandon(LinkMessage, frozen=True, tag=43):
    """I no longer wait for ``number``: cancel its handler."""

    number: NUMBER


class StreamOpen(LinkMessage, frozen=True, tag=44):
    """A question to the handler ``name`` that has many answers, of which ``credit`` bytes may be sent at first."""

    number: NUMBER
    name: TEXT
    credit: NUMBER
    body: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]
    about: ABOUT = b""


class StreamItem(LinkMessage, frozen=True, tag=45):
    """One answer to ``StreamOpen``, the ``seq``-th. 0: none, I am still at it."""

    number: NUMBER
    body: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]
    seq: NUMBER = 0


class StreamGrant(LinkMessage, frozen=True, tag=46):
    """In all, you may begin items while fewer than ``total`` bytes of them were sent. I have the first ``have``."""

    number: NUMBER
    total: NUMBER
    have: NUMBER = 0


class StreamEnd(LinkMessage, frozen=True, tag=47):
    """No more answers, there were ``count``; ``error`` and ``body`` as in ``Reply``."""

    number: NUMBER
    error: TEXT
    body: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]
    count: NUMBER = 0


class StreamStop(LinkMessage, frozen=True, tag=48):
    """I want no more of it: close its generator."""

    number: NUMBER


class Post(LinkMessage, frozen=True, tag=49):
    """A durable message: (sender, ``life``, ``number``) names it for ever. Acknowledged by ``Receipt`` once handled.

    ``run`` counts the sender's attempts: after a letter that was refused, others of the same attempt are not taken.
    """

    life: Annotated[bytes, Meta(min_length=8, max_length=8)]
    number: NUMBER
    run: NUMBER
    body: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]
    about: ABOUT = b""


class Receipt(LinkMessage, frozen=True, tag=50):
    """Letters of ``life`` up to ``number`` are handled, and my disk knows. Or, with an ``error``: this one was not."""

    life: Annotated[bytes, Meta(min_length=8, max_length=8)]
    number: NUMBER
    run: NUMBER
    error: TEXT
    words: TEXT


class Relayed(LinkMessage, frozen=True, tag=51):
    """A sealed message for ``to``, handed from neighbour to neighbour at most ``hops`` times more.

    ``box``: nonce (24 bytes) and XChaCha20-Poly1305 of the encoded message; (sender, number) tells repeats.
    """

    to: KEY
    sender: KEY
    number: NUMBER
    hops: Annotated[int, Meta(ge=1, le=16)]
    box: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX + 1024)]


# -- what a newer version may say ------------------------------------------------------------------------------------


class UnknownKind(LinkMessage, frozen=True, tag=60):
    """You sent a message of a kind that I do not know. It was not handled; the link goes on."""

    kind: NUMBER


AnyMessage: TypeAlias = (
    Rumour | Records | Probe | ProbeAck | ProbeFor | ProbeVerdict
    | Contact | Shuffle | Disconnect
    | IHave | Graft | Prune | Listen | Digest | Vector | Want | SnapshotPart | SnapshotPull
    | Durable | ConfirmAsk | DurableAsk | Evidence | Gone
    | Send | Request | Reply | Abandon | StreamOpen | StreamItem | StreamGrant | StreamEnd | StreamStop
    | Post | Receipt | Relayed | UnknownKind
)  # fmt: skip
_KINDS = frozenset(each.__struct_config__.tag for each in get_args(AnyMessage))


class KindUnknown(Exception):
    """A well-formed message of a kind this version does not know: nobody's fault, and not handled."""

    def __init__(self, kind: int) -> None:
        super().__init__(f"a link message of the unknown kind {kind}")
        self.kind = kind


def _plain(value: object) -> bytes:
    """msgspec knows ``bytes`` but not its kin (``NodeId``, ``Origin``)."""
    if isinstance(value, bytes):
        return bytes(value)
    raise NotImplementedError(f"{type(value).__name__} does not go on a link")


_HOPS_AT = 4  # of the array: behind tag, to, sender and number


def with_hops(relayed: bytes, hops: int) -> bytes:
    """The bytes of a ``Relayed`` with another number of hops; whatever else a newer version put in stays."""
    fields = _raws.decode(relayed)
    fields[_HOPS_AT] = msgspec.Raw(_encoder.encode(hops))
    return _encoder.encode(fields)


_raws = msgspec.msgpack.Decoder(list[msgspec.Raw])
_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: LinkMessage) -> bytes:
    """The bytes of one link message."""
    return _encoder.encode(message)


def decode(peer: NodeId, raw: bytes) -> AnyMessage:
    """The message in ``raw``. Raises ``KindUnknown``, or ``PeerFault`` when it is none; in time and memory bounded by
    ``raw``."""
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as wrong:
        # An array whose first entry is a small number: a message, of some kind.
        if len(raw) > 1 and 0x91 <= raw[0] <= 0x9F and raw[1] < 0x80 and raw[1] not in _KINDS:
            raise KindUnknown(raw[1]) from None
        raise PeerFault(peer, f"a link message must be well formed ({wrong})") from None
