"""An echo server on websockets and uvloop; with --deflate context or no-context, all messages are compressed."""

import argparse
import resource

import uvloop
from websockets.asyncio.server import serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


async def echo(connection):
    async for message in connection:
        await connection.send(message)


def extension(is_fresh):
    """What the package itself has by default, but for the context."""
    return ServerPerMessageDeflateFactory(
        server_no_context_takeover=is_fresh, client_no_context_takeover=is_fresh,
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5},
    )


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:9001")
    parser.add_argument("--deflate", choices=("context", "no-context"))
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, _, port = args.listen.rpartition(":")
    extensions = [extension(args.deflate == "no-context")] if args.deflate else None
    options = {"compression": None, "extensions": extensions, "ping_interval": None, "backlog": 4096, "max_size": None}
    async with serve(echo, host, int(port), **options) as server:
        print(f"listening on ws://{host}:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
