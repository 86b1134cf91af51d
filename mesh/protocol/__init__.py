"""The protocol of one node, as pure cores: who is there, whom to link to, who gets what, what is missing.

``Stack`` couples them: events in (``effects.Event``), effects out (``effects.Effect``), time and randomness given.
No clock, no socket, no randomness of its own; the runtime and the simulator are two shells around the same cores.
"""

from mesh.protocol.members import MemberView
from mesh.protocol.stack import Stack, StackConfig

__all__ = ["MemberView", "Stack", "StackConfig"]
