"""What a node remembers: a document of every space, with gossip and disk.

``spaces`` is what the runtime talks to, ``space`` what applications do. Nothing leaves a node that it could forget.
"""

__all__ = ["confirm", "folding", "intake", "journal", "space", "spaces", "storage"]
