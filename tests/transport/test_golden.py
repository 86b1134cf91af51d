"""The golden vectors of docs/wire.md: what another implementation must produce, byte for byte."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from mesh.messages import Post, Request, Send, encode
from mesh.messaging.context import Context, Trace
from transport.admission import admission
from transport.base import Lane
from transport.codec import encode_value
from transport.frame import GENESIS, KIND_TOPIC, seal
from transport.handshake import Handshake
from transport.identity import Identity
from transport.lanes import Lanes, LanesConfig

PAGE = Path(__file__).parents[2] / "docs" / "wire.md"
ALICE, BOB = Identity(b"\x01" * 32), Identity(b"\x02" * 32)  # of these seeds


def vectors() -> dict[str, str]:
    """What the code makes of the inputs that the page names."""
    mesh, open_mesh = admission("home", secret="s3cret", open=False), admission("home", secret=None, open=True)
    out = {
        "node.alice": ALICE.id, "mesh.tag": mesh.tag, "mesh.id": mesh.id, "mesh.id.open": open_mesh.id,
        "value": encode_value({"b": [1, -1, 1.5, None, True], "a": b"\x00", "é": 1 << 40}),
    }  # fmt: skip
    dialler = Handshake(
        ALICE, mesh, dialed=True, binding=b"\x0b" * 32, nonce=b"\x0a" * 32, boot=b"\x0c" * 16, expected=BOB.id
    )
    acceptor = Handshake(BOB, mesh, dialed=False, binding=b"\x0b" * 32, nonce=b"\x1a" * 32, boot=b"\x1c" * 16)
    hello = dialler.open() or b""
    answer = acceptor.receive(hello) or b""
    dialler.receive(answer)
    proof = dialler.commit()
    acceptor.receive(proof)
    out |= {"hello": hello, "answer": answer, "proof": proof, "welcome": acceptor.commit()}
    lanes = Lanes(BOB.id, LanesConfig())
    lanes.offer(Lane.CONTROL, b"x" * 200)
    lanes.receive(b"\x11\x03")
    lanes.offer(Lane.DIRECT, b"abc")
    out["lanes"] = lanes.take() or b""
    frame = seal(
        ALICE, mesh, stream="main", log=b"\x07" * 8, first=1, count=3, hlc=5 << 16, previous=GENESIS,
        items=[b"\x01", b"\xa2hi"],
    )  # fmt: skip
    out |= {"frame": frame.raw, "frame.hash": frame.digest}
    trace = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)
    about = Context(trace, (ALICE.id,), "k").about
    topic = seal(
        ALICE, mesh, kind=KIND_TOPIC, stream="\0topics", log=b"\x07" * 8, first=1, count=1, hlc=5 << 16,
        previous=GENESIS, items=[msgspec.msgpack.encode(("t", encode_value(1), about))],
    )  # fmt: skip
    out |= {
        "about": about, "send": encode(Send(encode_value("hi"), about)),
        "request": encode(Request(1, "sum", 10_000, encode_value([1, 2]))),
        "post": encode(Post(b"\x0f" * 8, 3, 1, encode_value("hi"))), "topic": topic.raw,
    }  # fmt: skip
    return {name: raw.hex() for name, raw in out.items()}


def written() -> dict[str, str]:
    """The vectors on the page: ``name`` on a line, its bytes in hex on the lines below it."""
    section = PAGE.read_text().partition("## Golden vectors")[2]
    return {
        name: re.sub(r"\s", "", hexed)
        for name, hexed in re.findall(r"^    ([a-z.]+)\n((?:      [0-9a-f]+\n)+)", section, re.M)
    }


@pytest.mark.parametrize("name", sorted(vectors()))
def test_the_page_tells_the_truth(name: str) -> None:
    assert written().get(name) == vectors()[name]


def test_the_page_names_no_vector_that_nobody_checks() -> None:
    assert written().keys() == vectors().keys()
