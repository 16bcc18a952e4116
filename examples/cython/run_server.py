"""Runs the server of echo_server.pyx until it is interrupted.

python3 run_server.py [port]
"""

import asyncio
import sys

from echo_server import EchoServer

import picows_uring as picows


async def main(port: int = 9001) -> None:
    server = await picows.ws_create_server(lambda request: EchoServer(), "127.0.0.1", port)
    print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:2])))
