"""Programs on picows, of which the import is changed and nothing else."""

import asyncio
import json

import pytest

import picows_uring as picows

from .conftest import Echo, served

PINGS = {"enable_auto_ping": True, "auto_ping_idle_timeout": 0.02, "auto_ping_reply_timeout": 0.02}


class Pinging(picows.WSListener):
    """A server that pings by itself, and collects what is no pong."""

    def __init__(self):
        self.frames = []

    def on_ws_frame(self, transport, frame):
        self.frames.append(frame.get_payload_as_bytes())


class TextPings(Pinging):
    def send_user_specific_ping(self, transport):
        transport.send(picows.WSMsgType.TEXT, b"ping")

    def is_user_specific_pong(self, frame):
        return frame.msg_type == picows.WSMsgType.TEXT and frame.get_payload_as_memoryview() == b"pong"


class JsonPings(Pinging):
    def send_user_specific_ping(self, transport):
        transport.send(picows.WSMsgType.TEXT, b'{"op":"ping"}')

    def is_user_specific_pong(self, frame):
        return False

    def on_ws_frame(self, transport, frame):
        if json.loads(frame.get_payload_as_utf8_text())["op"] == "pong":
            transport.notify_user_specific_pong_received()
        else:
            super().on_ws_frame(transport, frame)


def answer_ping(transport, frame):
    transport.send_pong(frame.get_payload_as_bytes())
    return frame.msg_type == picows.WSMsgType.PING


def answer_text(transport, frame):
    transport.send(picows.WSMsgType.TEXT, b"pong")
    return frame.get_payload_as_bytes() == b"ping"


def answer_json(transport, frame):
    transport.send(picows.WSMsgType.TEXT, b'{"op":"pong"}')
    return json.loads(frame.get_payload_as_utf8_text()) == {"op": "ping"}


@pytest.mark.parametrize(
    ("server", "answer"),
    [(Pinging, answer_ping), (TextPings, answer_text), (JsonPings, answer_json)],
    ids=["ping", "text", "json"],
)
def test_auto_ping_and_its_answers(run, server, answer):
    class Client(picows.WSListener):
        pings = 0

        def on_ws_frame(self, transport, frame):
            assert answer(transport, frame)
            self.pings += 1
            if self.pings == 3:
                transport.disconnect()

    async def main():
        listeners = []
        factory = lambda request: listeners.append(server()) or listeners[-1]
        async with served(factory, **PINGS) as url:
            transport, client = await picows.ws_connect(Client, url, enable_auto_pong=False)
            await transport.wait_disconnected()
            assert client.pings == 3
            # Pongs are not delivered.
            assert listeners[0].frames == []

    run(main())


def test_a_peer_without_answer_is_given_up(run):
    class Silent(picows.WSListener):
        def __init__(self):
            self.frames = []

        def on_ws_frame(self, transport, frame):
            self.frames.append(frame.msg_type)
            if frame.msg_type == picows.WSMsgType.CLOSE:
                self.code = frame.get_close_code()

    async def main():
        async with served(lambda request: Pinging(), **PINGS) as url:
            transport, client = await picows.ws_connect(Silent, url, enable_auto_pong=False)
            await transport.wait_disconnected()
            assert client.frames == [picows.WSMsgType.PING, picows.WSMsgType.CLOSE]
            assert client.code == picows.WSCloseCode.GOING_AWAY

    run(main())


def test_fragments_are_sent_and_joined(run):
    class Joining(picows.WSListener):
        def __init__(self):
            self.parts = []
            self.done = asyncio.get_running_loop().create_future()

        def on_ws_connected(self, transport):
            transport.send(picows.WSMsgType.TEXT, b"Hel", fin=False)
            transport.send(picows.WSMsgType.CONTINUATION, b"lo ", fin=False)
            transport.send(picows.WSMsgType.CONTINUATION, b"world", fin=True)

        def on_ws_frame(self, transport, frame):
            self.parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                self.done.set_result(b"".join(self.parts))

    async def main():
        async with served() as url:
            transport, client = await picows.ws_connect(Joining, url)
            assert await client.done == b"Hello world"
            transport.disconnect()
            await transport.wait_disconnected()

    run(main())


def test_messages_are_iterated_by_a_queue(run):
    class Queueing(picows.WSListener):
        def __init__(self):
            self.queue = asyncio.Queue()

        def on_ws_frame(self, transport, frame):
            self.queue.put_nowait(frame.get_payload_as_utf8_text())

        def on_ws_disconnected(self, transport):
            self.queue.put_nowait(None)

        def __aiter__(self):
            return self

        async def __anext__(self):
            message = await self.queue.get()
            if message is None:
                raise StopAsyncIteration
            return message

    class Counting(picows.WSListener):
        def on_ws_connected(self, transport):
            for number in range(3):
                transport.send(picows.WSMsgType.TEXT, str(number))
            transport.disconnect()

    async def main():
        async with served(lambda request: Counting()) as url:
            _, client = await picows.ws_connect(Queueing, url)
            assert [message async for message in client] == ["0", "1", "2"]

    run(main())


def test_callbacks_start_tasks(run):
    class Starting(picows.WSListener):
        def __init__(self):
            self.tasks = []
            self.results = asyncio.Queue()

        def on_ws_frame(self, transport, frame):
            work = self.work(transport, frame.get_payload_as_utf8_text())
            self.tasks.append(asyncio.get_running_loop().create_task(work))

        async def work(self, transport, text):
            await asyncio.sleep(0)
            self.results.put_nowait(text)
            if text == "2":
                transport.send_close(picows.WSCloseCode.OK)
                transport.disconnect()

    async def main():
        async with served() as url:
            transport, client = await picows.ws_connect(Starting, url)
            for number in range(3):
                transport.send(picows.WSMsgType.TEXT, str(number))
            await transport.wait_disconnected()
            assert [client.results.get_nowait() for _ in range(3)] == ["0", "1", "2"]

    run(main())


@pytest.mark.parametrize("strategy", [None, *picows.WSAutoPingStrategy])
def test_round_trips_are_measured(run, strategy):
    async def main():
        settings = {}
        if strategy is not None:
            settings = {**PINGS, "auto_ping_strategy": strategy, "auto_ping_reply_timeout": 0.02}
        async with served(lambda request: Echo()) as url:
            transport, _ = await picows.ws_connect(picows.WSListener, url, **settings)
            times = await transport.measure_roundtrip_time(5)
            assert len(times) == 5 and all(0 < it < 20 for it in times)
            transport.disconnect()
            with pytest.raises(ConnectionResetError):
                await transport.measure_roundtrip_time(1)

    run(main())
