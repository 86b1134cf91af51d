"""Messages between nodes: to one, with reply. At most once, and said so.

Streams, topics, groups and the durable outbox are the next rooms here.
"""

from mesh.messaging.handler import Message, Request

__all__ = ["Message", "Request"]
