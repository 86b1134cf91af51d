"""Sensor fan-in without a broker: many sensors publish, whoever watches reads, and nobody waits for a slow reader.

python examples/sensors.py sensor kitchen   # as many as there are rooms, here or on other machines
python examples/sensors.py watch            # the latest of each, once a second; Ctrl-C ends it
"""

import asyncio
import os
import random
import sys

from mesh import Node

SECRET = os.environ.get("SENSORS_SECRET", "change-me: gossamer secret makes a good one")


async def sensor(room: str) -> None:
    async with Node(room, secret=SECRET) as node:
        degrees = 20.0
        while True:
            degrees += random.uniform(-0.1, 0.1)
            # A reading that nobody has room for is worth nothing a second later: the oldest go, and are counted.
            await node.publish(f"readings.{room}.temperature", degrees, on_full="drop_oldest")
            await asyncio.sleep(0.1)


async def watch() -> None:
    async with Node("watch", secret=SECRET) as node, node.subscribe("readings.*.temperature") as readings:
        latest: dict[str, float] = {}

        async def show() -> None:
            while True:
                await asyncio.sleep(1.0)
                rooms = ", ".join(f"{room} {degrees:.1f}" for room, degrees in sorted(latest.items()))
                print(f"{len(latest)} rooms: {rooms or 'none yet'}; {readings.dropped} readings dropped", flush=True)

        showing = asyncio.create_task(show())
        try:
            async for reading in readings:
                latest[reading.topic.split(".")[1]] = reading.body
        finally:
            showing.cancel()


try:
    match sys.argv[1:]:
        case ["sensor", room]:
            asyncio.run(sensor(room))
        case ["watch"]:
            asyncio.run(watch())
        case _:
            sys.exit("usage: python examples/sensors.py sensor ROOM | watch")
except KeyboardInterrupt:
    pass
