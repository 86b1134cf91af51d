"""What those who mean harm achieve: nothing but an audit line. Real ``gossamer up`` processes, attacked on loopback.

While they are at it a user of the attacked node reads and writes all the time, its memory is watched, and its state
must not move.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh import messages as m
from mesh.protocol import record
from tests.lan.hostile import (
    UPGRADE,
    Liar,
    Middle,
    Raw,
    Stranger,
    Tap,
    User,
    forget_peak,
    knock,
    memory_mb,
    secret_mesh,
    websocket_frame,
    world,
)  # fmt: skip
from tests.lan.lan import PATIENCE, SECRET, Host, Loopback, eventually
from transport.base import FRAME_BYTES_MAX, Lane
from transport.errors import BadProof
from transport.frame import SignedFrame, parse
from transport.identity import Identity, NodeId, Origin
from transport.link import EstablishedLink, Refusal
from transport.system import SystemEnv

pytestmark = pytest.mark.timeout(60)

ANSWER_S = 0.5 * PATIENCE  # what a user may have to wait for, whoever else is at the door
GROWTH_MB = 50.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """Two honest nodes that know each other, with something in their state."""
    with Loopback(2, tmp_path_factory.mktemp("hostile")) as pair:
        pair.start()
        pair.all_alive(5.0)
        pair.hosts[0].ask("put", key="treasure", value="in plain sight of members only")
        for number in range(50):
            pair.hosts[number % 2].ask("incr", key="n", amount=1)
        pair.equal(5.0)
        yield pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Loopback]:
    """Two honest nodes of their own, for tests that leave traces."""
    with Loopback(2, tmp_path) as nodes:
        nodes.start()
        nodes.all_alive(5.0)
        nodes.hosts[0].ask("put", key="treasure", value="in plain sight of members only")
        nodes.equal(5.0)
        yield nodes


@pytest.fixture
async def env() -> AsyncIterator[SystemEnv]:
    async with world() as made:
        yield made


def lost(host: Host, states: tuple[str, ...]) -> list[dict[str, Any]]:
    """Events by which an honest member was thought to be away."""
    members = [each for each in host.events() if each["event"] == "member" and each["name"].startswith("h")]
    return [each for each in members if each["state"] in states]


@contextlib.asynccontextmanager
async def unmoved(pair: Loopback, *, suspicion: bool = False) -> AsyncIterator[User]:
    """What happens inside leaves the first node as it was: it answers, holds its memory, its state and its member.

    ``suspicion``: somebody may be suspected for a moment, as long as the suspicion is refuted.
    """
    victim, other = pair.hosts
    away = ("down", "left") if suspicion else ("suspect", "down", "left")
    before = victim.ask("digest"), other.ask("digest"), [len(lost(host, away)) for host in pair.hosts]
    links = [len([each for each in host.events() if each["event"].startswith("link.")]) for host in pair.hosts]
    forget_peak(victim)
    held = memory_mb(victim)
    with User(victim) as user:
        yield user
    grew = memory_mb(victim, peak=True) - held
    print(f"user: {user.count} rounds, worst {user.worst_s * 1000:.0f} ms; memory +{grew:.1f} MB")
    assert not user.failed
    assert user.worst_s < ANSWER_S
    assert grew < GROWTH_MB
    assert (victim.ask("digest"), other.ask("digest"), [len(lost(host, away)) for host in pair.hosts]) == before
    assert victim.states()[other.name] == other.states()[victim.name] == "alive"
    assert set(victim.states()) >= {"h0", "h1"}
    gone = [
        [each for each in host.events() if each["event"].startswith("link.")][count:]
        for host, count in zip(pair.hosts, links, strict=True)
    ]
    ids = {host.id for host in pair.hosts}
    assert not [each for events in gone for each in events if each["event"] == "link.down" and each["peer"] in ids]


def refused(host: Host, reason: str) -> list[dict[str, Any]]:
    return [each for each in host.events() if each["event"] == "refused" and each["reason"] == reason]


# -- who is not let in -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "mesh", "reason"),
    [("a-secret-that-is-not-theirs", None, "wrong-secret"), (None, None, "wrong-secret"),
     (SECRET, "another-mesh", "wrong-mesh")],
    ids=["wrong secret", "no secret", "other mesh"],
)  # fmt: skip
def test_an_outsider_is_nobody_and_one_line(
    shared: Loopback, tmp_path: Path, secret: str | None, mesh: str | None, reason: str
) -> None:
    """A whole ``gossamer up`` with the wrong word, dialling in: refused on both sides, told once, and it stays so."""
    victim = shared.hosts[0]
    told = len(refused(victim, reason))
    outsider = Host(shared, 7)
    outsider.data = tmp_path / "outsider"
    outsider.always = ("--mesh", mesh or shared.mesh, "--no-discovery", "--listen", "127.0.0.1:0", "--join",
                       victim.address)  # fmt: skip
    try:
        if secret is None:
            shared.secret_file, kept = Path("/nonexistent"), shared.secret_file
            outsider.always = ("--open", *outsider.always)
            start_open(outsider)
            shared.secret_file = kept
        else:
            outsider.start(secret=secret)
        eventually(lambda: refused(outsider, reason), 5.0)
        eventually(lambda: len(refused(victim, reason)) > told or (reason == "wrong-secret" and told), 5.0)
        for _ in range(20):  # it goes on trying, by the command and by itself
            assert set(outsider.states()) == {"h7"}
            assert "h7" not in victim.states()
            assert outsider.value("treasure") is None
        assert outsider.ask("dump")["clock"] == {}
        assert len(refused(outsider, reason)) == 1
        assert len(refused(victim, reason)) <= told + 1
    finally:
        outsider.leave()


def start_open(host: Host) -> None:
    """``gossamer up --open``: Host.start always gives a secret file, so the words are put together here."""
    import subprocess

    host._starts += 1
    with host.output.open("wb") as out, (host.lan.folder / f"{host.name}.err").open("ab") as errors:
        host.process = subprocess.Popen(
            [*host.gossamer, "up", host.name, "--json", "--data", str(host.data), *host.always],
            stdin=subprocess.DEVNULL, stdout=out, stderr=errors, cwd=Path(__file__).parents[2], start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]),
                 "XDG_STATE_HOME": str(host.lan.folder / "state")},
        )  # fmt: skip
    host.ready()


async def test_a_hundred_wrong_knocks_are_one_line(pair: Loopback, env: SystemEnv) -> None:
    """The same key again and again: counted, told once. And not a byte beyond the handshake is said to it."""
    victim = pair.hosts[0]
    mesh = secret_mesh(pair.mesh, "a-secret-that-is-not-theirs")
    identity = Identity(b"k" * 32)
    async with unmoved(pair):
        for _ in range(100):
            outcome = await knock(env, victim.address, identity, mesh)
            assert isinstance(outcome, Refusal)
            assert outcome.reason == "wrong-secret"
    await asyncio.to_thread(eventually, lambda: refused(victim, "wrong-secret"), 2.0)
    assert len(refused(victim, "wrong-secret")) == 1


async def test_outsiders_with_many_names_are_a_few_lines(pair: Loopback, env: SystemEnv) -> None:
    """A key costs nothing, so a new key each time must not be a line each time."""
    victim = pair.hosts[0]
    mesh = secret_mesh(pair.mesh, "a-secret-that-is-not-theirs")
    async with unmoved(pair):
        for _ in range(60):
            outcome = await knock(env, victim.address, Identity(os.urandom(32)), mesh)
            assert isinstance(outcome, Refusal)
    assert 1 <= len([each for each in victim.events() if each["event"] == "refused"]) <= 16


async def test_not_a_byte_of_state_before_the_proof(shared: Loopback, env: SystemEnv) -> None:
    """Everything a stranger is told by a node whose secret it does not know: at most 1 KiB, and no value in it."""
    mesh = secret_mesh(shared.mesh, "guessed")
    stranger = await Stranger.dial(env, shared.hosts[0].address)
    from transport.handshake import Handshake

    handshake = Handshake(
        Identity(b"s" * 32), mesh, dialed=True, binding=stranger.conduit.binding, nonce=os.urandom(32),
        boot=os.urandom(16),
    )  # fmt: skip
    hello = handshake.open()
    assert hello is not None
    stranger.conduit.send(hello)
    await stranger.next(0)
    stranger.conduit.send(os.urandom(90))
    await asyncio.wait_for(stranger.ended, 5)
    said = b"".join(stranger.heard)
    assert len(said) < 1024
    assert b"treasure" not in said
    assert b"plain sight" not in said


# -- at the door -------------------------------------------------------------------------------------------------------


async def test_random_bytes_garbage_tls_and_garbage_http(shared: Loopback) -> None:
    """Nonsense of every layer, and no layer but the first sees it."""
    rng, address = random.Random(1), shared.hosts[0].address
    nonsense = [rng.randbytes(rng.choice([1, 5, 100, 5000])) for _ in range(40)]
    nonsense += [b"\x16\x03\x01" + struct.pack(">H", size) + rng.randbytes(size) for size in (10, 500, 8000)]
    nonsense += [b"\x16\x03\x01\xff\xff" + bytes(100), b"GET / HTTP/1.1\r\n\r\n", b"\x16", b"\x16\x03"]
    pages = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /gossamer/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + bytes(1 << 16),
        b"POST /gossamer/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + bytes(1 << 16),
        b"GET /gossamer/1 HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
        b"GET /" + b"a" * (1 << 18) + b" HTTP/1.1\r\n\r\n",
        b"GET /gossamer/1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
        UPGRADE.replace(b"Host: x", b"Host: x\r\nOrigin: https://evil.example"),
        UPGRADE.replace(b"Version: 13", b"Version: 12"),
        *(rng.randbytes(3000) for _ in range(10)),
        b"\r\n" * 50_000,
    ]

    async def said(what: bytes, *, tls: bool) -> int:
        raw = await Raw.connect(address, tls=tls)
        raw.say(what)
        if not tls:
            with contextlib.suppress(OSError):  # hung up on already
                raw.writer.write_eof()
        return await raw.end(7.0)

    async with unmoved(shared):
        answers = await asyncio.gather(
            *(said(each, tls=False) for each in nonsense), *(said(each, tls=True) for each in pages)
        )  # fmt: skip
        assert max(answers[: len(nonsense)]) == 0
        assert max(answers) < 16 << 10  # aiohttp's 400 repeats the bad line, nothing else


async def test_websocket_nonsense_and_giant_frames(shared: Loopback) -> None:
    """After the upgrade: random frames, texts, pings, fragments without end, lengths that nobody means."""
    rng, address = random.Random(2), shared.hosts[0].address
    nonsense = [
        *(rng.randbytes(rng.choice([2, 20, 2000])) for _ in range(15)),
        websocket_frame(b"x", announced=1 << 62),
        websocket_frame(bytes(1 << 16), announced=(1 << 20) + (64 << 10) - 1),
        websocket_frame(b"x", announced=1 << 31),
        websocket_frame(b"hello", opcode=1),
        websocket_frame(b"ping", opcode=9) * 100,
        websocket_frame(bytes(2000), opcode=9),
        websocket_frame(b"?", opcode=3),
        (b"\x02\xff" + (1000).to_bytes(8, "big") + bytes(4) + bytes(1000)) + (b"\x00\xfe\x03\xe8" + bytes(1004)) * 500,
        websocket_frame(bytes(1 << 20)),
        websocket_frame(b"") * 10_000,
    ]
    async with unmoved(shared):
        raws = [await Raw.connect(address, tls=True, upgrade=True) for _ in nonsense]
        for raw, what in zip(raws, nonsense, strict=True):
            raw.say(what)
        assert max(await asyncio.gather(*(raw.end(7.0) for raw in raws))) < 1024


BOMBS = [
    b"\x91" * 900, b"\x81\xa0" * 400, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff", b"\x97\x01" + b"\x91" * 500, b"\x98\x01\xdd\x7f\xff\xff\xff", b"\xc1", b"", b"\xc9",
    b"\x97\x01\x91\x01\xc4\x08" + bytes(8) + b"\xc3\xc4\x20", b"\x92\x06\xd9\x18" + b"a" * 24,
    b"\x92\x06\xdb\x00\x00\x04\x00" + b"(" * 900,
]  # fmt: skip


async def test_messagepack_bombs_as_the_first_message(shared: Loopback, env: SystemEnv) -> None:
    """Of 1 KiB and of 1 MiB, instead of a hello."""

    async def thrown(bomb: bytes) -> None:
        stranger = await Stranger.dial(env, shared.hosts[0].address)
        stranger.conduit.send(bomb)
        await asyncio.wait_for(stranger.ended, 7)
        assert sum(map(len, stranger.heard)) < 1024

    async with unmoved(shared):
        giants = [(each * (1 << 20))[: 1 << 20] for each in BOMBS if each]  # read no further than 64 KiB
        await asyncio.gather(*(thrown(bomb) for bomb in [*filter(None, BOMBS), *giants]))


async def test_slow_ones_and_three_hundred_half_open(shared: Loopback, env: SystemEnv) -> None:
    """Hundreds that begin and do not go on, at every stage, some a byte at a time: an honest one gets in meanwhile,
    nobody is kept waiting, and all of them are gone within the handshake's patience."""
    address = shared.hosts[0].address
    mesh = secret_mesh(shared.mesh, SECRET)
    async with unmoved(shared):
        raws = [await Raw.connect(address, tls=False) for _ in range(300)]
        opened = await asyncio.gather(
            *(Raw.connect(address, tls=True) for _ in range(60)), return_exceptions=True
        )  # fmt: skip
        tls = [each for each in opened if isinstance(each, Raw)]
        strangers = []
        for number in range(40):
            with contextlib.suppress(AssertionError):  # the door is full: that one was turned away
                strangers.append(await Stranger.dial(env, address))
                if number % 2:
                    strangers[-1].conduit.send(b"\x97\x01")

        async def drip(raw: Raw, text: bytes) -> None:
            for byte in text:
                raw.say(bytes((byte,)))
                await asyncio.sleep(0.05)

        drips = [asyncio.create_task(drip(raw, UPGRADE)) for raw in tls[:20]]
        drips += [asyncio.create_task(drip(raw, b"\x16\x03\x01\x02\x00\x01" + bytes(400))) for raw in raws[-20:]]
        began = asyncio.get_running_loop().time()
        for _ in range(5):
            liar = await asyncio.wait_for(Liar(env, mesh).join(address), 3)
            liar.leave()
        took = asyncio.get_running_loop().time() - began
        print(f"five honest handshakes among them: {took:.2f} s")
        ends = [each.end(12.0) for each in (*raws, *tls)]
        await asyncio.gather(*ends, *(asyncio.wait_for(asyncio.shield(each.ended), 12.0) for each in strangers))
        for each in drips:
            each.cancel()


# -- replays and relays ------------------------------------------------------------------------------------------------


async def test_a_capture_shows_nothing_and_replayed_does_nothing(tmp_path: Path, env: SystemEnv) -> None:
    """All bytes between two nodes, copied on the way: no value, key or secret in clear; sent again they are noise."""
    with Loopback(2, tmp_path) as nodes:
        first, second = nodes.hosts
        first.start()
        async with Tap(first.address) as tap:
            second.always = ("--mesh", nodes.mesh, "--no-discovery", "--listen", "127.0.0.1:0", "--join", tap.address)
            await asyncio.to_thread(second.start)
            await asyncio.to_thread(nodes.all_alive, 5.0)
            for number, host in enumerate(nodes.hosts * 10):
                await asyncio.to_thread(host.ask, "put", key=f"secretkey{number}", value=f"marker-{number}" * 20)
            await asyncio.to_thread(nodes.equal, 5.0)
            seen = tap.bytes
            assert len(seen) > 2000
            assert len(tap.conversations[0][0]) > 1000, "they did not speak through the tap"
            for word in (b"marker", b"secretkey", SECRET.encode(), first.id.encode(), nodes.mesh.encode()):
                assert word not in seen
            async with unmoved(nodes):
                for whole in [bytes(way) for way in tap.conversations[0]]:
                    for part in (whole, whole[:600], whole[500:]):
                        raw = await Raw.connect(first.address, tls=False)
                        raw.say(part)
                        with contextlib.suppress(OSError):
                            raw.writer.write_eof()
                        await raw.end(7.0)


async def test_a_man_in_the_middle_is_found_out(tmp_path: Path, env: SystemEnv) -> None:
    """He relays every message of the handshake under his own certificate: both ends see that it is not theirs."""
    with Loopback(2, tmp_path) as nodes:
        first, second = nodes.hosts
        first.start()
        middle = Middle(env, first.address)
        address = await middle.listen()
        second.always = ("--mesh", nodes.mesh, "--no-discovery", "--listen", "127.0.0.1:0", "--join", address)
        await asyncio.to_thread(second.start)
        await asyncio.to_thread(eventually, lambda: refused(second, "bad-proof"), 5.0)
        assert set(first.states()) == {"h0"}
        assert set(second.states()) == {"h1"}
        assert sum(map(len, middle.heard)) < 4096
        assert len(refused(second, "bad-proof")) == 1


async def test_a_recorded_handshake_opens_nothing(shared: Loopback, env: SystemEnv) -> None:
    """Hello and proof of a member, taken down at one time and said again at another."""
    mesh = secret_mesh(shared.mesh, SECRET)
    said: list[bytes] = []
    from transport.link import establish

    stranger = await Stranger.dial(env, shared.hosts[0].address)
    send = stranger.conduit.send
    stranger.conduit.send = lambda raw: (said.append(raw), send(raw))[1]  # type: ignore[method-assign]
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    establish(env, stranger.conduit, Identity(b"r" * 32), mesh, dialed=True, on_link=done.set_result,
              on_refused=done.set_result, boot=os.urandom(16))  # fmt: skip
    link = await asyncio.wait_for(done, 5)
    assert isinstance(link, EstablishedLink)
    link.close("closed")
    async with unmoved(shared):
        again = await Stranger.dial(env, shared.hosts[0].address)
        again.conduit.send(said[0])
        await asyncio.wait_for(again.next(0), 5)
        for raw in said[1:]:
            again.conduit.send(raw)
        await asyncio.wait_for(again.ended, 5)
        assert b"bad-proof" in b"".join(again.heard)
    assert BadProof.reason == "bad-proof"


async def test_a_whole_session_said_again(shared: Loopback, env: SystemEnv) -> None:
    """Every frame that an honest node ever sent to a member, sent back to it: each is known, and nothing happens."""
    mesh = secret_mesh(shared.mesh, SECRET)
    victim = shared.hosts[0]
    listener = await Liar(env, mesh).join(victim.address)
    listener.say(m.Digest(bytes(16), True))
    await listener.until(lambda: any(raw[:2] == b"\x93\x19" for raw in listener.messages))
    for entry in vector_of(listener, victim):
        listener.say(m.Want(entry.stream, entry.origin, 0))
    await listener.until(lambda: len(listener.frames) >= 20)
    async with unmoved(shared):
        again = await Liar(env, mesh).join(victim.address)
        for _ in range(20):
            for raw in listener.frames:
                again.say(raw, Lane.BROADCAST)
            for raw in list(listener.messages):
                again.say(raw)
            await asyncio.sleep(0)
        again.say(m.Probe(77))
        await again.until(lambda: m.encode(m.ProbeAck(77)) in again.messages or not again.is_linked)
    listener.leave()
    again.leave()


def vector_of(liar: Liar, host: Host) -> list[m.Have]:
    """All logs that the node named to the liar."""
    entries: list[m.Have] = []
    for raw in liar.messages:
        message = m.decode(NodeId(liar.identity.id), raw)
        if isinstance(message, m.Vector):
            entries += message.entries
    return entries


# -- a member that lies ------------------------------------------------------------------------------------------------


async def test_bombs_from_a_member_cost_it_the_link(shared: Loopback, env: SystemEnv) -> None:
    """As link messages, as frames, as entries of a conduit message: thrown out, one line, nothing else."""
    victim, mesh = shared.hosts[0], secret_mesh(shared.mesh, SECRET)
    identity = Identity(b"b" * 32)
    async with unmoved(shared):
        for bomb in [
            *(each for each in BOMBS if each),
            b"\x91" * 500_000,
            b"\x92\x02\xdd\x00\x0f\xff\xff" + b"\xc0" * 900_000,
        ]:
            liar = await Liar(env, mesh, identity).join(victim.address)
            liar.say(bomb)
            assert await liar.thrown_out() == "closed"
        for entry in (
            b"\x00\xff\xff\xff\xff\x0f",
            b"\x07\x01x",
            b"\x11\x01",
            b"\x00\x00",
            b"\x01\x85",
            bytes([0x80] * 30),
        ):
            liar = await Liar(env, mesh, identity).join(victim.address)
            liar.raw(entry)
            assert await liar.thrown_out() == "closed"
    told = [each for each in victim.events() if each["event"] == "peer.misbehaved"]
    assert told


async def test_credit_is_not_optional(shared: Loopback, env: SystemEnv) -> None:
    """More bytes on a lane than it was allowed, in one breath: hung up on before they are kept."""
    victim, mesh = shared.hosts[0], secret_mesh(shared.mesh, SECRET)
    async with unmoved(shared):
        for lane in (1, 2, 3):
            liar = await Liar(env, mesh).join(victim.address)
            frame = b"\x01" + bytes(FRAME_BYTES_MAX - 1)
            for _ in range(20):
                liar.raw(bytes((lane,)) + b"\x80\x80\x40" + frame)
            assert await liar.thrown_out() == "closed"


async def test_forged_mutated_and_foreign_frames(shared: Loopback, env: SystemEnv) -> None:
    """A frame of another with one bit changed, under another key, of another mesh, of another kind: never applied."""
    victim, mesh = shared.hosts[0], secret_mesh(shared.mesh, SECRET)
    reader = await Liar(env, mesh).join(victim.address)
    reader.say(m.Digest(bytes(16), True))
    await reader.until(lambda: vector_of(reader, victim))
    for entry in vector_of(reader, victim):
        reader.say(m.Want(entry.stream, entry.origin, 0))
    await reader.until(lambda: reader.frames)
    real = parse(reader.frames[0])
    reader.leave()
    rng = random.Random(3)
    forged: list[bytes] = []
    for _ in range(12):
        raw = bytearray(real.raw)
        raw[rng.randrange(1, len(raw))] ^= 1 << rng.randrange(8)
        forged.append(bytes(raw))
    liar = Liar(env, mesh)
    mine = liar.frame(1, None, "forged", "x")
    stranger = Liar(env, secret_mesh(shared.mesh, "another"))
    forged.append(mine.raw[:10] + real.raw[10:50] + mine.raw[50:])  # my words under its name
    forged.append(stranger.frame(1, None, "forged", "x").raw)
    forged.append(bytes((1, 9)) + mine.raw[2:])
    forged.append(b"\x01" + bytes(200))
    async with unmoved(shared):
        for raw in forged:
            liar = await Liar(env, mesh).join(victim.address)
            liar.say(raw, Lane.BROADCAST)
            liar.say(m.Probe(5))
            with contextlib.suppress(TimeoutError):  # a flip in what it cannot know (a log id) is merely unknown
                await liar.thrown_out(2.0)
            assert not liar.is_linked, raw[:60].hex()
    assert victim.value("forged") is None


async def test_a_member_that_equivocates_loses_its_log_everywhere(pair: Loopback, env: SystemEnv) -> None:
    """One sequence, two frames, one for each node: all drop it from there on, keep the proof, and agree again."""
    first, second = pair.hosts
    mesh = secret_mesh(pair.mesh, SECRET)
    liar = await Liar(env, mesh).join(first.address)
    other = await Liar(env, mesh, liar.identity).join(second.address)
    start = liar.frame(1, None, "common", "said to both")
    one, two = liar.frame(2, start, "lie", "to the first"), liar.frame(2, start, "lie", "to the second")
    for link, frame in ((liar, one), (other, two)):
        link.say(start.raw, Lane.BROADCAST)
        link.say(frame.raw, Lane.BROADCAST)

    def convicted() -> bool:
        return all(any(each["event"] == "log.forked" for each in host.events()) for host in pair.hosts)

    await asyncio.to_thread(eventually, convicted, 10.0)
    await asyncio.to_thread(pair.equal, 5.0)
    for host in pair.hosts:
        assert host.value("lie") is None
        assert host.value("common") == "said to both"
    later = liar.frame(3, one, "lie", "later")
    for link in (liar, other):
        link.say(later.raw, Lane.BROADCAST)
        link.leave()
    for host in pair.hosts:
        assert await asyncio.to_thread(host.leave) == 0
    await asyncio.to_thread(pair.start)  # the proof outlives a restart
    await asyncio.to_thread(pair.all_alive, 5.0)
    again = await Liar(env, mesh, liar.identity).join(first.address)
    for frame in (start, one, two, later):
        again.say(frame.raw, Lane.BROADCAST)
    again.say(m.Probe(9))
    await again.until(lambda: m.encode(m.ProbeAck(9)) in again.messages)
    await asyncio.to_thread(pair.equal, 5.0)
    assert [host.value("lie") for host in pair.hosts] == [None, None]
    again.leave()


async def test_nobody_is_buried_by_a_liar(shared: Loopback, env: SystemEnv) -> None:
    """Rumours that an honest member is down, at its own and at invented incarnations; records in its name."""
    victim, other = shared.hosts
    mesh = secret_mesh(shared.mesh, SECRET)
    target = NodeId.parse(other.id)
    async with unmoved(shared, suspicion=True):
        liar = await Liar(env, mesh).join(victim.address)
        me = liar.identity.id
        known = next(each["incarnation"] for each in victim.ask("members") if each["name"] == other.name)
        for incarnation in (0, known, known + 1, 1 << 40, (1 << 62) - 1, (1 << 63) - 1):
            for down in (False, True):
                liar.say(m.Rumour(target, incarnation, down, me, "timeout"))
                liar.say(m.Rumour(NodeId.parse(victim.id), incarnation, down, me, "left"))
        liar.say(m.Rumour(target, known, True, me, "left"))
        liar.say(m.Probe(1))
        await liar.until(lambda: m.encode(m.ProbeAck(1)) in liar.messages)
        mine = record.sign(
            liar.identity, mesh, name="liar", incarnation=record.INCARNATION_MAX, left=False, addresses=("x:1",),
            durable=True,
        )  # fmt: skip
        liar.say(m.Records([mine.raw]))
        forged = mine.raw.replace(bytes(me), bytes(target))
        liar.say(m.Records([forged]))
        await liar.thrown_out()
    assert {victim.states()[other.name], other.states()[victim.name]} == {"alive"}


FLOODS: dict[str, Any] = {}


def flood(name: str) -> Any:
    def register(make: Any) -> Any:
        FLOODS[name] = make
        return make

    return register


def _invented(rng: random.Random) -> Origin:
    return Origin(rng.randbytes(40))


@flood("rumours")
def _rumours(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    while True:
        yield m.encode(m.Rumour(rng.randbytes(32), 1, True, rng.randbytes(32), "timeout"))


@flood("ihave")
def _ihave(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    while True:
        yield m.encode(m.IHave([m.Have("main", _invented(rng), 7, bytes(16)) for _ in range(100)]))


@flood("vectors")
def _vectors(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    while True:
        yield m.encode(m.Vector([m.Have(f"s{rng.randrange(9)}", _invented(rng), 7, bytes(16))] * 50, False))


@flood("wants")
def _wants(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    clock = host.ask("dump")["clock"]
    origins = [Origin.parse(each) for each in clock]
    for origin in itertools.cycle(origins):
        yield m.encode(m.Want("main", origin, 0))


@flood("grafts and prunes")
def _grafts(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    while True:
        yield m.encode(m.Graft("main", _invented(rng), 0))
        yield m.encode(m.Prune(_invented(rng)))


@flood("digests")
def _digests(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    while True:
        yield m.encode(m.Digest(rng.randbytes(16), True))


@flood("records")
def _records(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    while True:
        who = Identity(rng.randbytes(32))
        one = record.sign(who, liar.mesh, name="crowd", incarnation=1, left=True, addresses=(), durable=False)
        yield m.encode(m.Records([one.raw]))


@flood("probes for others")
def _probes(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    while True:
        yield m.encode(m.ProbeFor(rng.randrange(1 << 40), rng.randbytes(32)))


@flood("confirmations")
def _confirmations(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    while True:
        yield m.encode(m.ConfirmAsk(rng.randrange(1 << 40), "main", _invented(rng), 9))
        yield m.encode(m.Durable(0, [m.Have("main", _invented(rng), 7, bytes(16)) for _ in range(50)]))


@flood("questions")
def _questions(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    while True:
        yield m.encode(m.Request(rng.randrange(1 << 40), "nothing", 1000, b"\xc0"))
        yield m.encode(m.Send(b"\xc0"))


@flood("shuffles")
def _shuffles(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    while True:
        contacts = [m.Contact(rng.randbytes(32), ["127.0.0.1:1"]) for _ in range(64)]
        yield m.encode(m.Shuffle(contacts, False))


@flood("snapshot parts")
def _parts(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    for number in itertools.count():
        yield m.encode(m.SnapshotPart(f"s{number % 50}", number, 0, 65535, bytes(m.CHUNK_BYTES_MAX)))


@flood("snapshots of nothing")
def _nothing(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    for number in itertools.count():
        yield m.encode(m.SnapshotPart(f"s{number % 3000}", number, 0, 1, rng.randbytes(200)))


@flood("evidence of nothing")
def _evidence(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    frame = liar.frame(1, None, "k", "v").stub()
    while True:
        yield m.encode(m.Evidence(frame, frame))


@flood("frames without a beginning")
def _early(liar: Liar, rng: random.Random, host: Host) -> Iterator[bytes]:
    before = liar.frame(1, None, "k", "v")
    big = "x" * 60_000
    for number in itertools.count(3):
        yield liar.frame(number, before, "k", big, stream=f"spare{number % 20}").raw


@pytest.mark.parametrize("name", FLOODS)
async def test_floods_from_a_member(shared: Loopback, env: SystemEnv, name: str) -> None:
    """As fast as its link takes it, for half a second: users wait no longer, and memory stays."""
    victim, mesh = shared.hosts[0], secret_mesh(shared.mesh, SECRET)
    liar = await Liar(env, mesh).join(victim.address)
    lane = Lane.SYNC if "snapshot" in name else Lane.BROADCAST if "frames" in name else Lane.CONTROL
    async with unmoved(shared):
        sent = await liar.flood(FLOODS[name](liar, random.Random(4), victim), lane)
        print(f"{name}: {sent} sent, {liar.bytes} bytes came back, linked: {liar.is_linked}")
        liar.vanish()
    assert sent


assert SignedFrame
