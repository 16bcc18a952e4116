"""A proxy of the Python package pproxy: HTTP, SOCKS4 and SOCKS5 on one port.

With `USER:PASSWORD`, for that user; with `--tls CERTIFICATE KEY`, all of it in TLS.
"""

import argparse
import asyncio

import pproxy


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("user", nargs="?")
    parser.add_argument("--tls", nargs=2)
    arguments = parser.parse_args()
    users = f"#{arguments.user}" if arguments.user else ""
    tls = "+ssl" if arguments.tls else ""
    server = pproxy.Server(f"http+socks4+socks5{tls}://127.0.0.1:0{users}")
    if arguments.tls:
        server.sslserver.load_cert_chain(*arguments.tls)
    options = {"rserver": [], "verbose": lambda *_: None, "salgorithm": "fa", "block": None}
    handler = await server.start_server(options)
    port = handler.sockets[0].getsockname()[1]
    # As the servers do, for those who start it.
    print(f"listening on ws://127.0.0.1:{port}/", flush=True)
    await handler.serve_forever()


asyncio.run(main())
