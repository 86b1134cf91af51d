"""Where nodes hear of each other: multicast scout, zeroconf, the bootstrap list and the peers known last time.

Each source is a ``transport.base.Discovery``; all run at once and feed one candidate table. A source that fails or
hangs says so in ``explain`` and hurts no other. The list needs no network and is exported here; the other two are
imported where a real one is meant (``transport.system``).
"""

from __future__ import annotations

from transport.discovery.bootstrap import Bootstrap

__all__ = ["Bootstrap"]
