"""A proxy of the Python package pproxy: HTTP, SOCKS4 and SOCKS5 on one port; with `USER:PASSWORD`, for that user."""

import asyncio
import sys

import pproxy


async def main():
    users = f"#{sys.argv[1]}" if len(sys.argv) > 1 else ""
    server = pproxy.Server(f"http+socks4+socks5://127.0.0.1:0{users}")
    options = {"rserver": [], "verbose": lambda *_: None, "salgorithm": "fa", "block": None}
    handler = await server.start_server(options)
    port = handler.sockets[0].getsockname()[1]
    # As the servers do, for those who start it.
    print(f"listening on ws://127.0.0.1:{port}/", flush=True)
    await handler.serve_forever()


asyncio.run(main())
