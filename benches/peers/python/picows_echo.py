"""An echo server on picows and uvloop; with --fan-out, each message goes to every connection."""

import argparse
import asyncio
import resource

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

DATA = (WSMsgType.TEXT, WSMsgType.BINARY)


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame):
        if frame.msg_type in DATA:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


class Subscriber(WSListener):
    everybody = set()

    def on_ws_connected(self, transport: WSTransport):
        self.everybody.add(transport)

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame):
        if frame.msg_type in DATA:
            payload = frame.get_payload_as_bytes()
            for transport in self.everybody:
                transport.send(frame.msg_type, payload)

    def on_ws_disconnected(self, transport: WSTransport):
        self.everybody.discard(transport)


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:9001")
    parser.add_argument("--fan-out", action="store_true")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, _, port = args.listen.rpartition(":")
    listener = Subscriber if args.fan_out else Echo
    server = await ws_create_server(lambda _request: listener(), host, int(port), backlog=4096)
    print(f"listening on ws://{host}:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
