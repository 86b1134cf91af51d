"""Signed frames between keys, and the only door to other nodes. Usable without the rest; imports nothing of ours.

The seam is ``base``; who somebody is, ``identity``; who is at the other end, ``admission`` and ``handshake``; what may
overtake what, ``lanes``; a conduit becomes a link in ``link``; one link per peer is the ``dialer``'s business.
The modules are the public names: import from them, so that a command that needs one does not load all.
"""

__all__ = ["admission", "base", "codec", "dialer", "errors", "frame", "handshake", "identity", "keyfile", "lanes",
           "link", "memory"]  # fmt: skip
