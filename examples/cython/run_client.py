"""Runs the client of echo_client.pyx against an echo server.

python3 run_client.py ws://127.0.0.1:9001/ [message size in bytes] [seconds]
"""

import asyncio
import sys

from echo_client import EchoClient

import picows_uring as picows


async def main(url: str, message_size: int = 256, duration: float = 1.0) -> None:
    transport, client = await picows.ws_connect(lambda: EchoClient(message_size, duration), url)
    await transport.wait_disconnected()
    print(f"{client.count} round trips in {client.seconds:.3f} s")


if __name__ == "__main__":
    arguments = sys.argv[1:] or ["ws://127.0.0.1:9001/"]
    asyncio.run(main(arguments[0], *map(int, arguments[1:2]), *map(float, arguments[2:3])))
