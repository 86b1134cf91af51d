"""One test a cause: a user whose nodes do not find each other is told why, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.cli.doctor import OUTCOMES, Finding, diagnose
from transport.base import DialFault
from transport.errors import HandshakeError

ME = {"id": "me", "name": "ann", "state": "alive"}
BOB = {"id": "bob-id", "name": "bob", "state": "alive"}
QUIET = {
    "kind": "source", "source": "scout", "sent": 8, "errors": {}, "interfaces": ["10.0.0.1 (eth0)"], "own": 8
}  # fmt: skip


def candidate(outcome: str, **more: Any) -> dict[str, Any]:
    address = {"address": "10.0.0.2:17470", "outcome": outcome, "detail": ""}
    return {"kind": "candidate", "node": None, "linked": False, "addresses": [address]} | more


def bad(*explained: dict[str, Any], members: tuple[dict[str, Any], ...] = (ME,), **status: Any) -> list[Finding]:
    return [each for each in diagnose({"id": "me", **status}, members, explained) if each.level == "bad"]


def test_all_is_well() -> None:
    findings = diagnose({"id": "me"}, (ME, BOB), [QUIET, candidate("linked", linked=True)])
    assert [(each.level, each.text) for each in findings] == [("ok", "1 other member is alive: bob")]


@pytest.mark.parametrize(
    ("row", "words", "remedy"),
    [
        (QUIET | {"errors": {"eth0": "Network is unreachable"}}, "could not be sent", "--join"),
        (QUIET, "asked 8 times by multicast on 10.0.0.1 (eth0); nobody answered", "--join"),
        (QUIET | {"own": 0}, "not even its own questions came back", "--join"),
        (QUIET | {"bad_signature": 3}, "3 announcements of this mesh's name came with another secret", "secret file"),
        (QUIET | {"other_mesh": 3}, "meshes with other names", "--mesh"),
        (QUIET | {"other_version": 1}, "another protocol version", "upgrade"),
        (QUIET | {"not_loopback": 1}, "does not talk to", "--secret-file"),
        (QUIET | {"interfaces": []}, "no usable network interface", "--join"),
        ({"kind": "source", "source": "bootstrap", "addresses": []}, "discovery is off", "--join"),
        (candidate("refused"), "nobody listens on that port", "is the node up"),
        (candidate("timeout"), "nothing answers", "firewall"),
        (candidate("wrong-secret"), "another secret", "secret file"),
        (candidate("wrong-version"), "another version", "upgrade"),
        (candidate("linked", denied=True), "on purpose", "--chaos"),
        ({"kind": "refused", "address": "10.0.0.9:4", "reason": "wrong-secret"}, "with 10.0.0.9 was refused", "secret"),
    ],
)
def test_a_cause_is_named_with_its_remedy(row: dict[str, Any], words: str, remedy: str) -> None:
    found = [each for each in bad(row) if words in each.text]
    assert found, bad(row)
    assert remedy in found[0].remedy


def test_loopback_only_is_the_first_thing_said() -> None:
    assert "this machine only" in bad(loopback_only=True)[0].remedy


def test_who_was_named_and_refuses_is_bad_though_others_were_found() -> None:
    assert bad(candidate("wrong-secret", sources=["bootstrap"]), members=(ME, BOB))
    assert not bad(candidate("wrong-secret", sources=["scout"]), members=(ME, BOB))


def test_what_does_not_matter_is_not_bad() -> None:
    """Somebody was found: multicast errors, a stranger's silence, our own address are notes at most."""
    rows = [QUIET | {"errors": {"eth1": "no"}}, candidate("refused", node="bob-id"), candidate("selfie")]
    assert bad(*rows, members=(ME, BOB)) == []


def test_a_skewed_clock_is_told() -> None:
    findings = diagnose({"id": "me"}, (ME, BOB), [{"kind": "clock", "member": "bob", "by_ms": 90_000}])
    assert any("90.0 s ahead" in each.text for each in findings)


def test_every_word_of_the_transport_has_a_meaning() -> None:
    words = {each.value for each in DialFault} | {each.reason for each in HandshakeError.__subclasses__()}
    assert words <= set(OUTCOMES)


def test_a_peers_name_cannot_play_with_the_terminal() -> None:
    findings = diagnose({"id": "me"}, (ME, BOB | {"name": "\x1b[2J"}), [])
    assert "\x1b" not in "".join(each.line() for each in findings)
