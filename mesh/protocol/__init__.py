"""The cores of the mesh: who is here, whom to hold a link to, how news spreads, how holes are filled.

Pure: events in, effects out (``effects``), facts told (``facts``). ``stack`` couples ``swim`` (failure), ``hyparview``
(overlay), ``plumtree`` (broadcast) and ``antientropy`` (repair). The runtime feeds them; so do the tests and the simulator.
"""

__all__ = ["antientropy", "effects", "facts", "hyparview", "plumtree", "stack", "swim"]
