"""An echo server of picows.websockets, the interface of websockets on picows; it compresses where a client offers it."""

import asyncio

from certificate import of_arguments
from picows.websockets import serve


async def echo(connection):
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
