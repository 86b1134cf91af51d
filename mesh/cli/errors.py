"""What can go wrong for a command, and the exit code it means."""

from __future__ import annotations


class ControlError(Exception):
    """A command could not do what it was asked. ``exit_code`` is the command's, ``remedy`` what to do now."""

    exit_code = 1

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.text, self.remedy = text, remedy


class Misused(ControlError):
    """What was asked makes no sense, whatever runs."""

    exit_code = 2


class NoNode(ControlError):
    """No running node was found, or more than one and none was named. Nothing was asked."""

    exit_code = 3


class Refused(ControlError):
    """The node answered with an error. ``kind`` is its class there."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Unanswered(ControlError):
    """The connection ended, or nothing came in time: what was asked may have happened, or not."""
