"""The command line: ``gossamer``.

A shell over the public facade of a node, and nothing more. Nothing heavy is imported until a command needs it, so
that help and completion answer at once. Text that a peer made is escaped before it reaches a terminal.
"""

__all__: list[str] = []
