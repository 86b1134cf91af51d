"""Real ``gossamer up`` processes: on hosts of their own (``Lan``), or beside each other on loopback (``Loopback``).

A host is a network namespace; virtual cables join it to one of three switches. A partition is a cable moved to another
switch: nothing in a host is touched, exactly as if somebody had pulled it. Everything is named by this process's id,
lives in namespaces of its own, and is removed at the end. ``Loopback`` needs no root, so it runs wherever tests run.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mesh.cli.control import Client

ROOT = Path(__file__).resolve().parents[2]
SWITCHES = 3
READY_WAIT_S = 10.0
# The bounds in these tests are the product's, for a machine of its own: GOSSAMER_PATIENCE=1 holds it to them (`make
# soak`). Elsewhere somebody else's load must not fail a build.
PATIENCE = float(os.environ.get("GOSSAMER_PATIENCE", "4"))
LEAVE_WAIT_S = 10.0
SECRET = "a-secret-for-tests-of-128-bits-and-more"
_numbers = itertools.count()


class NoLan(Exception):
    """This machine cannot make network namespaces; the reason is in the text."""


def ip(*batch: str) -> None:
    """Run lines of ``ip``, all in one process. Raises ``NoLan`` with what it said."""
    done = subprocess.run(
        ["ip", "-batch", "-"], input="\n".join(batch) + "\n", capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        raise NoLan(done.stderr.strip() or done.stdout.strip())


def eventually(holds: Callable[[], Any], within_s: float, step_s: float = 0.01) -> tuple[Any, float]:
    """What ``holds`` returns as soon as it is true, and after how many seconds. Fails after ``within_s`` x patience."""
    within_s *= PATIENCE
    began = time.monotonic()
    while True:
        found = holds()
        took = time.monotonic() - began
        if found:
            return found, took
        assert took < within_s, f"not within {within_s} s, last seen: {found!r}"
        time.sleep(step_s)


class Host:
    """A host: its namespace (none on loopback), its address, and the node that runs there."""

    def __init__(self, lan: Lan | Loopback, number: int) -> None:
        self.lan, self.number = lan, number
        self.name = f"h{number}"
        self.space = f"{lan.prefix}-{self.name}"
        self.address = f"10.77.0.{number + 1}"
        self.port = f"p{number}"  # the switch's end of its cable
        self.data = lan.folder / self.name
        self.always: tuple[str, ...] = ()  # arguments of every start
        self.process: subprocess.Popen[bytes] | None = None
        self.id = ""
        self._starts = 0

    @property
    def gossamer(self) -> list[str]:
        """What a user of this host types for ``gossamer``."""
        inside = ["ip", "netns", "exec", self.space] if isinstance(self.lan, Lan) else []
        return [*inside, sys.executable, "-m", "mesh.cli"]

    def start(self, *arguments: str, secret: str | None = None, wait: bool = True) -> Host:
        """``gossamer up`` here, with the LAN's secret file or another secret. Returns when it is ready."""
        secret_file = self.lan.secret_file
        if secret is not None:
            secret_file = self.lan.folder / f"{self.name}.secret"
            secret_file.write_text(secret)
        self._starts += 1
        with self.output.open("wb") as out, (self.lan.folder / f"{self.name}.err").open("ab") as errors:
            self.process = subprocess.Popen(
                [*self.gossamer, "up", self.name, "--json", "--secret-file", str(secret_file),
                 "--data", str(self.data), *self.always, *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=errors, cwd=ROOT, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(self.lan.folder / "state")},
            )  # fmt: skip
        if wait:
            self.ready()
        return self

    @property
    def output(self) -> Path:
        """What the present start of the node printed."""
        return self.lan.folder / f"{self.name}.{self._starts}.out"

    def ready(self) -> dict[str, Any]:
        """The ready event. Fails with what the node said when it ended instead."""

        def first() -> dict[str, Any] | None:
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended: {self.said()}"
            return next(iter(self.events()), None)

        event: dict[str, Any] = eventually(first, READY_WAIT_S)[0]
        assert event["event"] == "ready"
        self.id = event["id"]
        return event

    def events(self) -> list[dict[str, Any]]:
        """Event lines so far."""
        with self.output.open() as file:
            return [json.loads(line) for line in file if line.endswith("\n")]

    def said(self) -> str:
        """Its standard error."""
        return (self.lan.folder / f"{self.name}.err").read_text(errors="replace")[-4000:]

    def ask(self, do: str, **fields: Any) -> Any:
        """Ask the node through its control socket."""
        with Client(self.data, timeout=10) as client:
            return client.ask(do, wait=10, **fields)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A ``gossamer`` command as a user of this host types it."""
        return subprocess.run(
            [*self.gossamer, *arguments, "--data", str(self.data)],
            capture_output=True, text=True, timeout=30, check=False, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def states(self) -> dict[str, str]:
        """How this node sees the members: name -> state."""
        return {each["name"]: each["state"] for each in self.ask("members")}

    def value(self, key: str) -> Any:
        """The value of a key here, ``None`` while nothing is there."""
        return self.ask("dump")["value"].get(key)

    def signal(self, number: signal.Signals) -> None:
        """Send the node a signal. ``ip netns exec`` becomes the node's process, so its id is the node's."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """``kill -9``."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(LEAVE_WAIT_S)

    def leave(self) -> int:
        """SIGTERM; its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(LEAVE_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL


class Group:
    """Hosts that are looked at together."""

    folder: Path
    hosts: list[Host]

    def start(self, *arguments: str, hosts: Sequence[Host] | None = None) -> None:
        """``gossamer up`` on all hosts (or these) at the same moment; returns when each is ready."""
        chosen = self.hosts if hosts is None else hosts
        for host in chosen:
            host.start(*arguments, wait=False)
        for host in chosen:
            host.ready()

    def all_alive(self, within_s: float, hosts: Sequence[Host] | None = None) -> float:
        """Wait until each lists all alive; how long it took."""
        chosen = self.hosts if hosts is None else hosts
        wanted = {host.name for host in chosen}

        def holds() -> bool:
            return all({name for name, state in host.states().items() if state == "alive"} >= wanted for host in chosen)

        return eventually(holds, within_s)[1]

    def equal(self, within_s: float, hosts: Sequence[Host] | None = None) -> tuple[str, float]:
        """Wait until all digests are equal; the digest, and how long it took."""
        chosen = self.hosts if hosts is None else hosts

        def holds() -> str | None:
            digests = {host.ask("digest") for host in chosen}
            return digests.pop() if len(digests) == 1 else None

        digest, took = eventually(holds, within_s)
        return str(digest), took

    def tell(self) -> None:
        """Print what each said: pytest shows it for a test that failed."""
        for host in self.hosts:
            if host.process is not None:
                code = host.process.poll()  # a crash says nothing else
                ended = "" if code is None else f"(ended with {code}) "
                print(f"--- {host.name}: {ended}{host.said()}\n{host.output.read_text()[-4000:]}")

    def leave(self) -> None:
        """End what runs."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(Host.leave, self.hosts))


class Loopback(Group):
    """``count`` nodes of one mesh beside each other on 127.0.0.1, each at a port of its own that it keeps.

    They look for nobody by multicast: each is told the ports of all. Use as a context manager.
    """

    def __init__(self, count: int, folder: Path) -> None:
        self.prefix = self.mesh = f"loop{os.getpid()}-{next(_numbers)}"
        self.folder = folder
        self.secret_file = folder / "mesh.secret"
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_text(f"{SECRET}\n")
        self.hosts = [Host(self, number) for number in range(count)]
        self.ports = free_ports(count)
        for host, port in zip(self.hosts, self.ports, strict=True):
            host.address = f"127.0.0.1:{port}"
            joins = [word for each in self.ports if each != port for word in ("--join", f"127.0.0.1:{each}")]
            host.always = ("--mesh", self.mesh, "--no-discovery", "--listen", host.address, *joins)

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *_: object) -> None:
        self.tell()
        self.leave()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody holds just now, below those that the system hands out by itself."""
    ports: list[int] = []
    rng = random.Random()
    while len(ports) < count:
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", rng.randrange(20_000, 32_000)))
            ports.append(trial.getsockname()[1])
    return ports


class Lan(Group):
    """``count`` hosts on one switch. Use as a context manager."""

    def __init__(self, count: int, folder: Path) -> None:
        self.prefix = f"gos{os.getpid()}"
        self.folder = folder
        self.secret_file = folder / "mesh.secret"
        self.switches = f"{self.prefix}-sw"  # a namespace with three bridges
        self.hosts = [Host(self, number) for number in range(count)]

    def __enter__(self) -> Lan:
        if os.geteuid() != 0:
            raise NoLan("only root makes network namespaces")
        if shutil.which("ip") is None:
            raise NoLan("there is no ip command (iproute2)")
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_text(f"{SECRET}\n")
        try:
            ip(f"netns add {self.switches}", *(f"netns add {host.space}" for host in self.hosts))
            inside = [f"link add br{at} type bridge mcast_snooping 0 forward_delay 0" for at in range(SWITCHES)]
            self.switch(*inside, *(f"link set br{at} up" for at in range(SWITCHES)))
            for host in self.hosts:
                ip(f"link add eth0 netns {host.space} type veth peer name {host.port} netns {self.switches}")
                self.inside(
                    host, "link set lo up", "link set eth0 up", f"addr add {host.address}/24 dev eth0",
                    "route add default via 10.77.0.254 dev eth0",
                )  # fmt: skip
            self.switch(*(f"link set {host.port} master br0 up" for host in self.hosts))
        except NoLan:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._remove()

    def _remove(self) -> None:
        for space in (self.switches, *(host.space for host in self.hosts)):
            with contextlib.suppress(NoLan):
                ip(f"netns del {space}")

    def inside(self, host: Host, *batch: str) -> None:
        """Lines of ``ip`` inside a host."""
        _ip_in(host.space, batch)

    def switch(self, *batch: str) -> None:
        """Lines of ``ip`` where the switches are."""
        _ip_in(self.switches, batch)

    def split(self, *groups: Sequence[Host]) -> None:
        """Plug each group into a switch of its own, hosts in no group into the first: groups do not see each other."""
        at = {host.name: number for number, group in enumerate(groups, 1) for host in group}
        self.switch(*(f"link set {host.port} master br{at.get(host.name, 0)}" for host in self.hosts))

    def heal(self) -> None:
        """Plug all into the first switch again."""
        self.split()

    def drop_multicast(self) -> None:
        """From now on the switch passes no multicast on, as an access point that keeps its clients apart."""
        self.switch(*(f"link set {host.port} type bridge_slave mcast_flood off" for host in self.hosts))


def _ip_in(space: str, batch: Sequence[str]) -> None:
    done = subprocess.run(
        ["ip", "-n", space, "-batch", "-"], input="\n".join(batch) + "\n", capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise NoLan(done.stderr.strip())


@contextlib.contextmanager
def lan_of(count: int, folder: Path) -> Iterator[Lan]:
    """A LAN, or a skipped test where this machine has none to offer."""
    import pytest

    lan = Lan(count, folder)
    try:
        lan.__enter__()
    except NoLan as reason:
        pytest.skip(f"no network namespaces: {reason}")
    try:
        yield lan
    finally:
        lan.tell()
        lan.__exit__()
