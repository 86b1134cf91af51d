"""The rules of the house (``STYLE.md``), proven on the source text: who imports whom, what a core may touch, and
that the world is entered through one door."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("crdt", "transport", "mesh", "sim")

# Whom a package may import of ours, itself aside. ``mesh.cli`` may hand over to the simulator's commands, by name only.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "crdt": frozenset(),
    "transport": frozenset(),
    "mesh": frozenset({"crdt", "transport"}),
    "sim": frozenset({"crdt", "transport", "mesh"}),
}

# The cores: modules marked ◇ in STYLE.md, and whole folders of them. A new core is added here the day it is written.
CORES = (
    "crdt/*",
    "transport/base.py", "transport/errors.py", "transport/identity.py", "transport/codec.py", "transport/frame.py",
    "transport/handshake.py", "transport/admission.py", "transport/lanes.py",
    "transport/candidates.py", "transport/porch.py", "transport/audit.py", "transport/rounds.py",
    "transport/address.py", "transport/discovery/scoutcore.py",
    "transport/link.py", "transport/dialer.py", "transport/agenda.py", "transport/dialing.py",  # on callbacks alone
    "mesh/config.py", "mesh/state/config.py", "mesh/messaging/config.py", "mesh/messaging/pattern.py",
    "mesh/messaging/window.py", "mesh/errors.py", "mesh/messages.py", "mesh/protocol/*",
    "mesh/agents/scheduler.py", "mesh/agents/task.py",
    "mesh/messaging/once.py", "mesh/messaging/context.py",
    "mesh/cli/doctor.py", "mesh/cli/values.py", "mesh/cli/requests.py",
)  # fmt: skip

# Named by a core only as a type of what it is given; a draw from the global generator is caught as a call.
CORE_NEVER = frozenset(
    {"asyncio", "socket", "time", "logging", "threading", "selectors", "ssl", "subprocess", "aiohttp"}
)

# The world beside ``Env``: clocks, randomness, threads. Only its two implementations hold the door.
DOORS = ("transport/system.py", "sim/*")
WORLD_MODULES = frozenset({"time", "uuid", "secrets", "threading", "concurrent", "multiprocessing"})
WORLD_CALLS = ("os.urandom", "os.getrandom", "datetime.now", "datetime.utcnow", "date.today", "asyncio.to_thread")
WORLD_METHODS = frozenset({"run_in_executor"})

# What a node shows to those who live on it: the facade, its errors and facts, and the types they are made of.
NODE_INSIDES = ("mesh.runtime", "mesh.state", "mesh.messaging", "mesh.protocol", "mesh.messages")
FACADE_ONLY = ("mesh/cli/*", "mesh/agents/*", "mesh/web/*")
FACADE_ALSO = ("mesh.protocol.facts",)


def sources(*patterns: str) -> list[Path]:
    """Files of ours that a pattern names: one file, or ``folder/*`` for all below it."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        if pattern.endswith("/*"):
            found.update(dict.fromkeys(sorted((ROOT / pattern[:-2]).rglob("*.py"))))
        elif (ROOT / pattern).is_file():
            found[ROOT / pattern] = None
    return list(found)


def imports(path: Path, *, for_types: bool = False) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import, wherever it stands; those under ``if TYPE_CHECKING`` only if asked."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            only_types |= {id(each) for part in node.body for each in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in only_types and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno}: imports are absolute here"
            assert node.module is not None
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def uses(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted text of each attribute that is read, as it is written: ``os.urandom``, ``random.random``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)


def enters_the_world(path: Path) -> Iterator[str]:
    """What in this file asks the world for a time, a random number or a thread, past ``Env``."""
    for line, name in imports(path):
        if name.split(".")[0] in WORLD_MODULES or name.endswith(WORLD_CALLS):
            yield told(path, line, f"imports {name}")
    for line, text in uses(path):
        if text.endswith(WORLD_CALLS) or text.rsplit(".", 1)[-1] in WORLD_METHODS:
            yield told(path, line, f"uses {text}")
        if text.startswith("random.") and text != "random.Random":
            yield told(path, line, f"uses {text}")


def told(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {what}"


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_of_import_point_down(package: str) -> None:
    """``crdt`` and ``transport`` import nothing of ours, ``mesh`` both of them, ``sim`` all; also not for types."""
    allowed = MAY_IMPORT[package] | {package}
    wrong = [
        told(path, line, name)
        for path in sources(f"{package}/*")
        for line, name in imports(path, for_types=True)
        if name.split(".")[0] in {*PACKAGES, "tests", "bench", "examples"} - allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_cores_are_pure() -> None:
    """No loop, socket, clock, log or shell in a core, and no draw from the global generator."""
    cores = sources(*CORES)
    wrong = []
    for path in cores:
        for line, name in imports(path):
            if name.split(".")[0] in CORE_NEVER:
                wrong.append(told(path, line, f"imports {name}"))
            if name.split(".")[0] == "random" and name not in {"random", "random.Random"}:
                wrong.append(told(path, line, f"imports {name}; a core is given its rng"))
        for line, text in uses(path):
            if text.startswith("random.") and text != "random.Random":
                wrong.append(told(path, line, f"uses {text}; a core is given its rng"))
    assert cores, "no core was found: is the table still true?"
    assert not wrong, "\n".join(sorted(wrong))


def test_cores_import_no_shell_of_ours() -> None:
    """Shells import cores, never the reverse."""
    cores = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in sources(*CORES)
    }
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources(*(f"{package}/*" for package in PACKAGES))
    }
    wrong = [
        told(path, line, f"imports {name}, which is no core")
        for path in sources(*CORES)
        for line, name in imports(path)
        if name in modules and name not in cores and modules[name].name != "__init__.py"
    ]
    assert not wrong, "\n".join(wrong)


def test_the_world_is_entered_through_env_only() -> None:
    """Clocks, randomness and threads are used by the two implementations of ``Env`` and by nothing else."""
    doors = set(sources(*DOORS))
    wrong = [
        line
        for path in sources(*(f"{package}/*" for package in PACKAGES))
        if path not in doors
        for line in enters_the_world(path)
    ]
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize(
    "sin",
    [
        "import time", "from time import monotonic", "def f():\n    import secrets", "import os\nos.urandom(4)",
        "from os import urandom", "import datetime as d\nd.datetime.now()", "import random\nrandom.random()",
        "loop.run_in_executor(None, f)", "from concurrent.futures import ThreadPoolExecutor", "import threading as t",
    ],
)  # fmt: skip
def test_the_house_sees_a_sin(sin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself is checked: each way past the door is found, wherever it hides."""
    monkeypatch.setattr("tests.test_house.ROOT", tmp_path)
    path = tmp_path / "sinner.py"
    path.write_text(sin)
    assert list(enters_the_world(path))


def test_who_lives_on_a_node_knows_its_facade_only() -> None:
    """Command line, agents and web pages import the facade and its facts, no room behind it."""
    wrong = [
        told(path, line, f"imports {name}")
        for path in sources(*FACADE_ONLY)
        for line, name in imports(path, for_types=True)
        if name.startswith(NODE_INSIDES) and not name.startswith(FACADE_ALSO) and name not in {"mesh.protocol"}
    ]
    assert not wrong, "\n".join(wrong)


def test_every_package_says_what_it_is_for() -> None:
    """A docstring and ``__all__`` in each ``__init__.py``, and a docstring on top of every module."""
    wrong = []
    for path in sources(*(f"{package}/*" for package in PACKAGES)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            wrong.append(told(path, 1, "no docstring"))
        if path.name == "__init__.py" and not any(
            isinstance(node, ast.Assign | ast.AnnAssign)
            and any(
                isinstance(target, ast.Name) and target.id == "__all__"
                for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            )
            for node in tree.body
        ):
            wrong.append(told(path, 1, "no __all__"))
    assert not wrong, "\n".join(wrong)


def test_the_oldest_supported_python_can_read_it() -> None:
    """No syntax that 3.11 does not know."""
    for path in sources(*(f"{package}/*" for package in (*PACKAGES, "tests"))):
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 11))
    assert sys.version_info >= (3, 11)
