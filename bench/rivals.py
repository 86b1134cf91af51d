"""Zenoh, ZeroMQ and NATS, doing what ``bench.messages`` does with nodes: publish to another process, and ask it.

None of them signs, and none encrypts here. Each is used in its fastest plain way from Python: Zenoh and ZeroMQ by
blocking calls (their own threads work beside Python), NATS by its asyncio client and a server between the two.
``python -m bench.rivals NAME`` is the other process.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PLAIN, STAMPED, END = 1, 2, 3  # first byte of a body: only counted; carries when it was sent; tell what came
BODY_BYTES = 98  # 100 as MessagePack
ANSWER_S = 120.0


def plain() -> bytes:
    return bytes((PLAIN,)) + bytes(BODY_BYTES - 1)


def stamped() -> bytes:
    """Carries the clock that all processes of one machine share."""
    return bytes((STAMPED,)) + time.monotonic_ns().to_bytes(8, "big") + bytes(BODY_BYTES - 9)


class Tally:
    """What the other process got since it told last."""

    def __init__(self) -> None:
        self.got, self.times = 0, list[int]()
        self._cpu = time.process_time()

    def take(self, body: bytes, more: Callable[[], dict[str, Any]] = dict) -> None:
        """Count it; at the end tell what came, in one line, and begin anew."""
        if body[0] == PLAIN:
            self.got += 1
        elif body[0] == STAMPED:
            self.got += 1
            self.times.append(time.monotonic_ns() - int.from_bytes(body[1:9], "big"))
        else:
            self.times.sort()
            told: dict[str, Any] = {"got": self.got, "cpu_s": time.process_time() - self._cpu, **more()}
            if times := self.times:
                told |= {"p50": times[len(times) // 2] / 1e6, "p99": times[len(times) * 99 // 100] / 1e6}
            print(json.dumps(told), flush=True)
            self.__init__()  # type: ignore[misc]


class Side:
    """One library: this process publishes and asks, its ``other`` process reads and answers.

    A subclass says how to ``connect``, ``put`` and ``ask``, and how the other end is to ``serve``.
    """

    name = ""
    module = ""  # what must be installed, and how
    install = "pip install 'gossamer[bench]'"
    command = "bench.rivals"
    given = ""  # what the other process is told

    def __init__(self) -> None:
        self.other: asyncio.subprocess.Process

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run here; empty if it can."""
        return "" if importlib.util.find_spec(cls.module) else f"{cls.name} is not installed: {cls.install}"

    async def told(self) -> dict[str, Any]:
        """The next line of the other process."""
        assert self.other.stdout is not None
        async with asyncio.timeout(ANSWER_S):
            line = await self.other.stdout.readline()
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def __aenter__(self) -> Side:
        await self.prepare()
        self.other = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self.command, self.name, self.given, stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        await self.connect(await self.told())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.other.kill()
        await self.other.wait()
        await self.close()

    async def prepare(self) -> None:
        """Before the other process starts."""

    async def connect(self, told: dict[str, Any]) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def stream(self, count: int) -> dict[str, Any]:
        """Publish as fast as it goes: what the other got, in how many seconds from the first to its telling."""
        began, cpu = time.perf_counter(), time.process_time()
        await self.publish(count)
        cpu = time.process_time() - cpu
        await self.put_end()
        return {**await self.told(), "took_s": time.perf_counter() - began, "put_cpu_s": cpu}

    async def publish(self, count: int) -> None:
        raise NotImplementedError

    async def put_end(self) -> None:
        raise NotImplementedError

    async def offer(self, rate: int, seconds: float) -> dict[str, Any]:
        """``rate`` messages a second, in bursts a millisecond apart: how long they took, p50 and p99 in ms."""
        raise NotImplementedError

    async def ask(self, count: int) -> float:
        """Median seconds of a question and its answer, one at a time."""
        raise NotImplementedError

    async def ask_many(self, count: int, in_flight: int) -> float:
        """Answers a second."""
        raise NotImplementedError


class Blocking(Side):
    """Those whose calls block; nothing else runs on this process's loop meanwhile."""

    def put(self, body: bytes) -> None:
        raise NotImplementedError

    async def publish(self, count: int) -> None:
        body = plain()
        for _ in range(count):
            self.put(body)

    async def put_end(self) -> None:
        self.put(bytes((END,)))

    async def offer(self, rate: int, seconds: float) -> dict[str, Any]:
        began, sent = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while sent < passed * rate:
                self.put(stamped())
                sent += 1
            time.sleep(0.001)  # noqa: ASYNC251
        await self.put_end()
        return await self.told()

    def ask_once(self) -> None:
        raise NotImplementedError

    async def ask(self, count: int) -> float:
        times = []
        for _ in range(count):
            began = time.perf_counter()
            self.ask_once()
            times.append(time.perf_counter() - began)
        return sorted(times)[count // 2]


class Zenoh(Blocking):
    name, module = "zenoh", "zenoh"

    async def connect(self, told: dict[str, Any]) -> None:
        self._session = _zenoh_session("connect", told["address"])
        import zenoh

        self._put = self._session.declare_publisher("bench/topic", congestion_control=zenoh.CongestionControl.BLOCK).put
        await asyncio.sleep(0.5)  # it does not say when the other's subscription is known here

    async def close(self) -> None:
        self._session.close()

    def put(self, body: bytes) -> None:
        self._put(body)

    def ask_once(self) -> None:
        next(iter(self._session.get("bench/ask", payload=plain()))).ok.payload.to_bytes()

    async def ask_many(self, count: int, in_flight: int) -> float:
        room = threading.Semaphore(in_flight)
        began = time.perf_counter()
        for _ in range(count):
            room.acquire()
            self._session.get("bench/ask", lambda reply: room.release(), payload=plain())
        for _ in range(in_flight):
            room.acquire()
        return count / (time.perf_counter() - began)

    @staticmethod
    def serve(given: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"tcp/127.0.0.1:{free.getsockname()[1]}"
        session, tally = _zenoh_session("listen", address), Tally()
        kept = (
            session.declare_subscriber("bench/topic", lambda sample: tally.take(sample.payload.to_bytes())),
            session.declare_queryable("bench/ask", lambda query: query.reply("bench/ask", query.payload.to_bytes())),
        )
        print(json.dumps({"address": address}), flush=True)
        threading.Event().wait()
        del kept


def _zenoh_session(how: str, address: str) -> Any:
    import zenoh

    config = zenoh.Config()
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("listen/endpoints", json.dumps([address] if how == "listen" else []))
    config.insert_json5("connect/endpoints", json.dumps([address] if how == "connect" else []))
    return zenoh.open(config)


class ZeroMQ(Blocking):
    name, module = "pyzmq", "zmq"

    async def connect(self, told: dict[str, Any]) -> None:
        import zmq

        self._context = zmq.Context()
        self._publisher, self._dealer = self._context.socket(zmq.XPUB), self._context.socket(zmq.DEALER)
        self._publisher.setsockopt(zmq.XPUB_NODROP, 1)  # else it drops in silence past 1000 messages
        self._publisher.connect(told["topic"])
        self._dealer.connect(told["ask"])
        self._publisher.recv()  # the other's subscription
        self.put = self._publisher.send  # type: ignore[method-assign]

    async def close(self) -> None:
        self._context.destroy(linger=0)

    def ask_once(self) -> None:
        self._dealer.send(plain())
        self._dealer.recv()

    async def ask_many(self, count: int, in_flight: int) -> float:
        began = time.perf_counter()
        for _ in range(in_flight):
            self._dealer.send(plain())
        for _ in range(count - in_flight):
            self._dealer.recv()
            self._dealer.send(plain())
        for _ in range(in_flight):
            self._dealer.recv()
        return count / (time.perf_counter() - began)

    @staticmethod
    def serve(given: str) -> None:
        import zmq

        context, tally = zmq.Context(), Tally()
        subscriber, router = context.socket(zmq.SUB), context.socket(zmq.ROUTER)
        subscriber.subscribe(b"")
        ports = [each.bind_to_random_port("tcp://127.0.0.1") for each in (subscriber, router)]

        def answer() -> None:
            while True:
                router.send_multipart(router.recv_multipart())

        threading.Thread(target=answer, daemon=True).start()
        topic, ask = (f"tcp://127.0.0.1:{port}" for port in ports)
        print(json.dumps({"topic": topic, "ask": ask}), flush=True)
        while True:
            tally.take(subscriber.recv())


class Awaiting(Side):
    """Those with an asyncio client."""

    put: Callable[[bytes], Any]

    async def publish(self, count: int) -> None:
        body, put = plain(), self.put
        for _ in range(count):
            await put(body)

    async def put_end(self) -> None:
        await self.put(bytes((END,)))

    async def offer(self, rate: int, seconds: float) -> dict[str, Any]:
        began, sent = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            while sent < passed * rate:
                await self.put(stamped())
                sent += 1
            await asyncio.sleep(0.001)
        await self.put_end()
        return await self.told()

    async def ask_once(self) -> None:
        raise NotImplementedError

    async def ask(self, count: int) -> float:
        times = []
        for _ in range(count):
            began = time.perf_counter()
            await self.ask_once()
            times.append(time.perf_counter() - began)
        return sorted(times)[count // 2]

    async def ask_many(self, count: int, in_flight: int) -> float:
        async def worker() -> None:
            for _ in range(count // in_flight):
                await self.ask_once()

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(in_flight)))
        return count // in_flight * in_flight / (time.perf_counter() - began)


class Nats(Awaiting):
    name, module = "nats", "nats"

    @classmethod
    def missing(cls) -> str:
        no_server = "" if shutil.which("nats-server") else "nats: there is no nats-server (https://nats.io/download)"
        return super().missing() or no_server

    async def prepare(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._server = await asyncio.create_subprocess_exec(
            "nats-server", "-a", "127.0.0.1", "-p", str(port), stderr=asyncio.subprocess.DEVNULL
        )
        self.given = f"nats://127.0.0.1:{port}"

    async def connect(self, told: dict[str, Any]) -> None:
        import nats

        self._client = await nats.connect(self.given)
        publish = self._client.publish
        self.put = lambda body: publish("bench.topic", body)

    async def close(self) -> None:
        await self._client.close()
        self._server.kill()
        await self._server.wait()

    async def ask_once(self) -> None:
        await self._client.request("bench.ask", plain(), timeout=10)

    async def put_end(self) -> None:
        await super().put_end()
        await self._client.flush()

    @staticmethod
    def serve(given: str) -> None:
        async def run() -> None:
            import nats

            client, tally = await nats.connect(given, connect_timeout=10), Tally()

            async def take(message: Any) -> None:
                tally.take(message.data)

            async def answer(message: Any) -> None:
                await message.respond(message.data)

            await client.subscribe("bench.topic", cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1)
            await client.subscribe("bench.ask", cb=answer)
            await client.flush()
            print("{}", flush=True)
            await asyncio.Event().wait()

        asyncio.run(run())


RIVALS: tuple[type[Side], ...] = (Zenoh, ZeroMQ, Nats)

if __name__ == "__main__":
    {each.name: each for each in RIVALS}[sys.argv[1]].serve(sys.argv[2])  # type: ignore[attr-defined]
