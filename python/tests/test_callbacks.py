"""Callbacks that fail, and the order of the others."""

import asyncio
import signal

import pytest

import picows_uring as picows

from .conftest import Collector, connected, served

BINARY = picows.WSMsgType.BINARY


class Failure(Exception):
    pass


def test_the_first_frame_that_raises_is_the_last(run):
    class Failing(Collector):
        def on_ws_frame(self, transport, frame):
            super().on_ws_frame(transport, frame)
            raise self.error

        error = Failure("the first")

    class Five(picows.WSListener):
        def on_ws_connected(self, transport):
            # One segment.
            for _ in range(5):
                transport.send(BINARY, b"x")

    async def main():
        async with served(lambda request: Five()) as url:
            async with connected(url, Failing) as (transport, listener):
                for _ in range(2):
                    with pytest.raises(Failure) as raised:
                        await transport.wait_disconnected()
                    assert raised.value is listener.error
                assert listener.calls == ["connected", "frame", "disconnected"]
                assert transport.close_handshake.sent.code == picows.WSCloseCode.INTERNAL_ERROR

    run(main())


def test_a_callback_is_looked_up_where_attributes_are(run):
    class Inheriting(Collector):
        pass

    class Base(picows.WSListener):
        """Has none."""

    async def main():
        async with served() as url, connected(url, Inheriting) as (transport, listener):
            queue = listener.queue
            transport.send(BINARY, b"of the class")
            assert await queue.get() == (BINARY, b"of the class")
            listener.on_ws_frame = lambda transport, frame: queue.put_nowait(frame.payload_size)
            transport.send(BINARY, b"of the object")
            assert await queue.get() == 13
            del listener.on_ws_frame
            Inheriting.on_ws_frame = lambda self, transport, frame: self.queue.put_nowait(self)
            transport.send(BINARY, b"of another function")
            assert await queue.get() is listener
            async with connected(url, Base) as (silent, _):
                silent.send(BINARY, b"x")
                await silent.measure_roundtrip_time(1)
                assert not silent.is_disconnected

    run(main())


@pytest.mark.parametrize("place", ["connected", "pause", "disconnected"])
def test_every_callback_may_fail_and_the_end_comes_once(run, place):
    class Failing(Collector):
        def on_ws_connected(self, transport):
            super().on_ws_connected(transport)
            self.fail("connected")
            if place == "pause":
                transport.underlying_transport.set_write_buffer_limits(16, 8)
                for _ in range(2000):
                    transport.send(BINARY, b"x" * 10_000)

        def on_ws_disconnected(self, transport):
            super().on_ws_disconnected(transport)
            self.fail("disconnected")

        def pause_writing(self):
            self.calls.append("pause")
            self.fail("pause")

        def fail(self, here):
            if here == place:
                raise Failure(here)

    async def main():
        async with served() as url:
            async with connected(url, Failing) as (transport, listener):
                transport.disconnect()
                with pytest.raises(Failure, match=place):
                    await transport.wait_disconnected()
                assert listener.calls.count("disconnected") == 1

    run(main())


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def reset_peer(url):
    """A peer that upgrades and then resets the connection."""
    reader, writer = await asyncio.open_connection(*url[5:-1].split(":"))
    writer.write(UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    # Unread bytes make it a reset.
    writer.transport.abort()


@pytest.mark.parametrize("place", ["timer", "on_ws_connected", "pause_writing", "another"])
def test_the_end_of_a_reset_peer_comes_once(run, place):
    """However the server sends, and it only sends."""

    async def main():
        ends, servers = [], []

        class Server(picows.WSListener):
            transport = None

            def on_ws_connected(self, transport):
                servers.append(self)
                self.transport = transport
                transport.underlying_transport.set_write_buffer_limits(64 * 1024, 1024)
                self.send_from("on_ws_connected")
                asyncio.get_running_loop().call_soon(self.tick)

            def tick(self):
                self.send_from("timer")
                if not self.transport.is_disconnected:
                    if place == "pause_writing":
                        self.transport.send(BINARY, b"x" * 100_000)
                    asyncio.get_running_loop().call_later(0.001, self.tick)

            def pause_writing(self):
                self.send_from("pause_writing")

            def on_ws_frame(self, transport, frame):
                if frame.msg_type == BINARY:
                    # Of the client that stays: it sends on all others.
                    for other in servers:
                        other.send_from("another")
                    transport.send(BINARY, b"again")

            def send_from(self, here):
                if here == place:
                    for _ in range(20):
                        self.transport.send(BINARY, b"x" * 1000)

            def on_ws_disconnected(self, transport):
                assert transport.is_disconnected
                transport.send(BINARY, b"late")
                ends.append(transport)

        class Asking(picows.WSListener):
            def on_ws_connected(self, transport):
                transport.send(BINARY, b"first")

            def on_ws_frame(self, transport, frame):
                if place == "another" and frame.payload_size == 5 and not ends:
                    transport.send(BINARY, b"again")

        async with served(lambda request: Server()) as url:
            async with connected(url, Asking) as (transport, _):
                await reset_peer(url)
                while not ends:
                    await asyncio.sleep(0.001)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(ends) == 1 and not transport.is_disconnected
            while len(ends) < 2:
                await asyncio.sleep(0.001)
        assert len(ends) == len(set(map(id, ends))) == 2

    run(main())


def test_the_factory_of_a_client_may_fail(run):
    def factory(request, response):
        raise Failure(request.path)

    async def main():
        async with served() as url:
            with pytest.raises(Failure, match="/there"):
                await picows.ws_connect(factory, url + "there")
            with pytest.raises(TypeError, match="WSListener"):
                await picows.ws_connect(lambda: None, url)

    run(main())


def test_the_text_of_a_failing_factory_stays_here(run, caplog):
    def factory(request):
        raise Failure("secret")

    async def main():
        async with served(factory) as url:
            with pytest.raises(picows.WSInvalidStatusError) as raised:
                await picows.ws_connect(Collector, url)
            assert raised.value.response.status == 500
            assert b"secret" not in raised.value.raw_body

    run(main())
    assert "secret" in caplog.text


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("place", ["on_ws_frame", "on_ws_connected", "factory"])
def test_sys_exit_in_a_callback_leaves_the_loop(run_script, loop, place):
    run_script(
        """
        class Leaver(Echo):
            def on_ws_frame(self, transport, frame):
                if sys.argv[2] == "on_ws_frame":
                    sys.exit(3)

            def on_ws_connected(self, transport):
                if sys.argv[2] == "on_ws_connected":
                    sys.exit(3)

        def factory(request):
            if sys.argv[2] == "factory":
                sys.exit(3)
            return Leaver()

        async def main():
            server, url = await serve(factory)
            try:
                transport, _ = await picows.ws_connect(Echo, url)
                transport.send(picows.WSMsgType.TEXT, "go")
            except picows.WSError:
                pass
            await asyncio.sleep(60)

        if sys.argv[1] == "uvloop":
            import uvloop
            uvloop.run(main())
        else:
            asyncio.run(main())
        """,
        status=3,
        arguments=[loop, place],
    )


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_interrupt_in_a_callback_leaves_the_loop(run_script, loop):
    output = run_script(
        """
        import signal

        class Slow(Echo):
            def on_ws_frame(self, transport, frame):
                # As Ctrl-C does where no runner has a handler of its own.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1_000_000):
                    pass

        async def main():
            server, url = await serve(lambda request: Slow())
            transport, _ = await picows.ws_connect(Echo, url)
            transport.send(picows.WSMsgType.TEXT, "go")
            await asyncio.sleep(60)

        if sys.argv[1] == "uvloop":
            import uvloop
            uvloop.run(main())
        else:
            asyncio.run(main())
        """,
        status=-signal.SIGINT,
        arguments=[loop],
    )
    assert "KeyboardInterrupt" in output
