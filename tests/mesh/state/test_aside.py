"""What is set aside until its causes come: bounded for the node, not for each space."""

from __future__ import annotations

from mesh.state.aside import Allowance, Aside
from transport.frame import seal
from transport.identity import Identity, Mesh

MESH = Mesh("test", b"t" * 8, b"i" * 16, None)


def test_all_spaces_share_one_bound_and_give_back_what_they_let_go() -> None:
    """A member that invented spaces had 16 MiB in each of them (tests/lan/test_hostile.py)."""
    identity = Identity(b"k" * 32)
    frames = [
        seal(identity, MESH, stream=f"s{number}", log=b"12345678", first=5, count=1, hlc=1, previous=bytes(16),
             items=[b"\xc4\x64" + bytes(100)])
        for number in range(5)
    ]  # fmt: skip
    size = len(frames[0].raw)
    allowance = Allowance(3 * size)
    spaces = [Aside(allowance) for _ in frames]
    assert [aside.put(frame, None) for aside, frame in zip(spaces, frames, strict=True)] == [True] * 3 + [False] * 2
    assert allowance.left == 0
    assert spaces[0].take(frames[0].origin, 5) == (frames[0], None)
    assert spaces[3].put(frames[3], None)
    for aside, frame in zip(spaces, frames, strict=True):
        aside.drop(frame.origin, up_to=9)
    assert allowance.left == 3 * size
