"""An echo server of the Python package websockets; with ECHO_DEFLATE in its environment, clients that do not
compress are refused."""

import asyncio
import os

from certificate import of_arguments
from websockets.asyncio.server import serve


async def echo(connection):
    if os.environ.get("ECHO_DEFLATE") and not connection.protocol.extensions:
        await connection.close(1008)
    async for message in connection:
        await connection.send(message)


async def main():
    scheme, tls = of_arguments()
    options = {"max_size": None, "ping_interval": None, "ssl": tls}
    async with serve(echo, "127.0.0.1", 0, **options) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"listening on {scheme}://127.0.0.1:{port}/", flush=True)
        await server.serve_forever()


asyncio.run(main())
