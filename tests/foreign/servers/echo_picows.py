"""An echo server of picows, the model of picows-uring."""

import asyncio

from certificate import of_arguments
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type != WSMsgType.PONG:
            transport.send(frame.msg_type, frame.get_payload_as_bytes(), frame.fin)


async def main():
    scheme, tls = of_arguments()
    server = await ws_create_server(lambda request: Echo(), "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on {scheme}://127.0.0.1:{port}/", flush=True)
    await server.serve_forever()


asyncio.run(main())
