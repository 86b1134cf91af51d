"""Why others are not found: causes out of what a node explains of itself. Pure, so that each cause has its test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.cli.values import escape


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is well ("ok"), worth knowing ("note") or wrong ("bad"), and what to do."""

    level: str
    text: str
    remedy: str = ""

    def line(self) -> str:
        """For people; what peers made is escaped."""
        mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[self.level]
        return f"{mark}  {escape(self.text)}" + (f"\n      {escape(self.remedy)}" if self.remedy else "")


def diagnose(
    status: Mapping[str, Any], members: Sequence[Mapping[str, Any]], explained: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    """Findings, the most telling first."""
    others = [each for each in members if each["id"] != status["id"]]
    alive = [each for each in others if each["state"] == "alive"]
    if alive:
        return [Finding("ok", f"{len(alive)} of {len(others)} other members are alive")]
    return [Finding("bad", "no other member is known or alive")]
