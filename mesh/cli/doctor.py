"""Why others are not found: causes, read out of what a node explains of itself. Pure, so that each cause has its test.

``diagnose`` takes what the control socket answers to ``status``, ``members`` and ``explain``. The rows of ``explain``
are those of ``node.explain()`` (kind "source" or "candidate"), and what the process noticed since it started (kind
"refused", "clock", "misbehaved").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.cli.values import escape

Row = Mapping[str, Any]

JOIN = "name one that runs: --join HOST:PORT (gossamer status shows the addresses there)"

# What a dial or a handshake ended in -> what that means, what to do. The words are the transport's.
OUTCOMES = {
    "refused": ("a host answers there, but nobody listens on that port", "is the node up, and on this port?"),
    "unreachable": ("there is no way to that host", "are both in one network? look at the address"),
    "timeout": ("nothing answers", "a firewall may drop it: open the node's TCP port; or the address is wrong"),
    "tls": ("somebody answers who does not speak TLS 1.3 as a node does", "is it another program's port?"),
    "invalid": ("that is no address", "write HOST:PORT, IPv6 in brackets"),
    "wrong-mesh": ("it belongs to a mesh of another name", "give the same --mesh on both sides"),
    "wrong-secret": ("it has another secret", "copy the secret file again; or one of the two is --open"),
    "wrong-version": ("it speaks another version of the protocol", "upgrade the older gossamer"),
    "unexpected-peer": ("another node than the expected one answers there", "addresses moved; it sorts itself out"),
    "bad-proof": ("what it proved is not true: somebody stands in between", "do not trust this network"),
    "selfie": ("it has this node's own key", "if that is another machine: give it a data directory of its own"),
    "malformed": ("it does not speak this protocol", "is it another program's port?"),
    "handshake-timeout": ("it took the connection and then said nothing", "it hangs or is overloaded; look at it"),
    "declined": ("it is proven but does not want the link now", "wait: it is tried again"),
    "closed": ("it hung up during the handshake", "look at what it printed; it is tried again"),
}

_REFUSALS = frozenset(("wrong-mesh", "wrong-secret", "wrong-version", "bad-proof"))
_WITH_DETAIL = frozenset(("tls", "invalid", "malformed", "declined", "wrong-version", "closed"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is well ("ok"), worth knowing ("note") or wrong ("bad"), and what to do."""

    level: str
    text: str
    remedy: str = ""

    def line(self) -> str:
        """For people; what peers made is escaped."""
        mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[self.level]
        return f"{mark}  {escape(self.text)}" + (f"\n      -> {escape(self.remedy)}" if self.remedy else "")


def diagnose(status: Row, members: Sequence[Row], explained: Sequence[Row]) -> list[Finding]:
    """Findings, the most telling first. All is well when none is "bad"."""
    others = [each for each in members if each["id"] != status["id"]]
    alive = [each for each in others if each["state"] == "alive"]
    away = [each for each in others if each["state"] in ("down", "suspect")]
    findings = []
    if alive:
        names = ", ".join(each["name"] for each in alive[:8]) + (" …" if len(alive) > 8 else "")
        findings.append(Finding("ok", f"{_count(len(alive), 'other member is', 'other members are')} alive: {names}"))
    else:
        findings.append(Finding("bad", "no other member is alive", _first_remedy(status)))
    findings += [
        Finding("bad" if not alive else "note", f"{each['name']} is {each['state']}", "it is dialled again by itself")
        for each in away
    ]
    findings += _dials(explained, found_somebody=bool(alive))
    findings += _turned_away(explained, found_somebody=bool(alive))
    findings += _sources(explained, status, found_somebody=bool(others))
    findings += _noticed(explained)
    return findings


def _first_remedy(status: Row) -> str:
    if status.get("loopback_only"):
        return (
            "this node listens on this machine only; to reach others start it with --secret-file (or --listen on an "
            "address of the network)"
        )
    return ""


def _dials(explained: Sequence[Row], *, found_somebody: bool) -> Iterator[Finding]:
    """Addresses that were tried and did not answer as they should.

    Bad while nobody was found at all, or where somebody refuses who was named on purpose; strangers on the same LAN,
    and a stale address among good ones, are worth a note.
    """
    for row in explained:
        if row["kind"] != "candidate" or row.get("linked"):
            continue
        if row.get("denied"):
            yield Finding("bad", f"{_who(row)} is cut off on purpose (--chaos)", "gossamer up without --chaos")
            continue
        for each in row.get("addresses", ()):
            outcome = each["outcome"]
            if outcome in ("linked", "not tried"):
                continue
            means, remedy = OUTCOMES.get(outcome, (outcome, ""))
            detail = f" ({each['detail']})" if each.get("detail") and outcome in _WITH_DETAIL else ""
            named = "bootstrap" in row.get("sources", ()) and outcome in _REFUSALS
            # one's own address that comes back as a hint is no fault, nor is a link that was not wanted twice
            level = "note" if outcome in ("selfie", "declined") or (found_somebody and not named) else "bad"
            yield Finding(level, f"dialled {each['address']}, {_who(row)}: {means}{detail}", remedy)


def _turned_away(explained: Sequence[Row], *, found_somebody: bool) -> Iterator[Finding]:
    """Who dialled this node and was refused in the handshake: each reason and host once."""
    seen: dict[tuple[str, str], int] = {}
    for row in explained:
        if row["kind"] == "refused":
            host = str(row["address"]).rpartition(":")[0] or str(row["address"])
            seen[host, row["reason"]] = seen.get((host, row["reason"]), 0) + 1
    for (host, reason), count in seen.items():
        means, remedy = OUTCOMES.get(reason, (reason, ""))
        times = "" if count == 1 else f" ({count} times)"
        bad = reason in _REFUSALS and not found_somebody
        yield Finding("bad" if bad else "note", f"a handshake with {host} was refused{times}: {means}", remedy)


def _sources(explained: Sequence[Row], status: Row, *, found_somebody: bool) -> Iterator[Finding]:
    sources = {row["source"]: row for row in explained if row["kind"] == "source"}
    bootstrap = sources.get("bootstrap", {})
    if "scout" not in sources and "mdns" not in sources:
        if not bootstrap.get("addresses") and not found_somebody:
            yield Finding("bad", "nobody can be found: discovery is off and no address was given", JOIN)
        return
    if scout := sources.get("scout"):
        yield from _scout(scout, found_somebody=found_somebody)
    if mdns := sources.get("mdns"):
        for error in _errors(mdns.get("errors")):
            yield Finding("note", f"mDNS: {error}", "the other ways to find each other go on")


def _scout(row: Row, *, found_somebody: bool) -> Iterator[Finding]:
    """What multicast did. It only is to blame where nobody was found by any way."""
    level = "note" if found_somebody else "bad"
    for error in _errors(row.get("errors")):
        yield Finding(level, f"multicast could not be sent or heard: {error}", JOIN)
    if not row.get("interfaces"):
        yield Finding(level, "this machine has no usable network interface", "is it connected? " + JOIN)
    strangers = int(row.get("bad_signature", 0))
    if strangers:
        text = f"{_count(strangers, 'announcement', 'announcements')} of this mesh's name came with another secret"
        yield Finding(level, text, "copy the secret file again; surrounding whitespace does not matter")
    for key, text, remedy in (
        ("other_mesh", "heard only of meshes with other names", "give the same --mesh on both sides"),
        ("other_version", "heard nodes of another protocol version", "upgrade the older gossamer"),
        ("not_loopback", "heard nodes on the network, which this one does not talk to", "start it with --secret-file"),
    ):
        if row.get(key) and not found_somebody:
            yield Finding("bad", text, remedy)
    heard = sum(int(row.get(key, 0)) for key in ("answers_heard", "asks_heard"))
    others = heard + strangers + sum(int(row.get(key, 0)) for key in ("other_mesh", "other_version", "not_loopback"))
    if row.get("sent") and not others and not found_somebody:
        where = ", ".join(row.get("interfaces", ()))
        text = f"asked {row['sent']} times by multicast on {where}; nobody answered"
        own = "" if row.get("own") else ", and not even its own questions came back"
        yield Finding(
            "bad", text + own, f"nobody else is up, or the network drops multicast: {JOIN}",
        )  # fmt: skip


def _noticed(explained: Sequence[Row]) -> Iterator[Finding]:
    for row in explained:
        if row["kind"] == "clock":
            text = f"the clock of {row['member']} is {row['by_ms'] / 1000:.1f} s ahead of this machine's"
            yield Finding(
                "note", text, "set the clocks (NTP): nothing is lost, but its writes win over concurrent ones"
            )
        elif row["kind"] == "misbehaved":
            yield Finding("bad", f"{row['member']} broke a rule: {row['rule']}", "is it of another version?")


def _errors(errors: Any) -> list[str]:
    if isinstance(errors, Mapping):
        return [f"{where}: {what}" for where, what in errors.items()]
    return [str(each) for each in errors or ()]


def _who(row: Row) -> str:
    node = row.get("node") or row.get("resolved")
    return f"node {node[:8]}" if node else "whoever is there"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
