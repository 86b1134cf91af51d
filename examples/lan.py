"""The same on several machines: whoever has the secret file is a member, nobody has to know an address.

gossamer secret > mesh.secret       # once; then copy the file to each machine
python examples/lan.py mesh.secret  # on each
"""

import asyncio
import sys
from pathlib import Path

from mesh import Node
from mesh.protocol.facts import MemberDown, MemberUp


async def main(secret: str) -> None:
    async with Node(secret=secret) as node:
        print(f"{node.name} at {', '.join(node.addresses)}; others join by the secret alone")
        node.set("seen").add(node.name)
        async for fact in node.events():
            if isinstance(fact, MemberUp):
                print("+", fact.member_name, "of", sorted(node.set("seen")))
            elif isinstance(fact, MemberDown):
                print("-", fact.member_name, fact.cause)


if len(sys.argv) != 2:
    sys.exit("usage: python examples/lan.py SECRET_FILE")
asyncio.run(main(Path(sys.argv[1]).read_text()))
