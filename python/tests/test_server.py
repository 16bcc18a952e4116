"""The server object and what the factory answers."""

import asyncio
import socket
import sys

import pytest

import picows_uring as picows

from .conftest import Collector, Echo, connected, served

TEXT = picows.WSMsgType.TEXT


def test_the_server_object_is_like_that_of_asyncio(run):
    async def main():
        server = await picows.ws_create_server(
            lambda request: Echo(), "127.0.0.1", 0, start_serving=False
        )
        assert isinstance(server, asyncio.AbstractServer)
        assert not server.is_serving()
        assert server.get_loop() is asyncio.get_running_loop()
        await server.start_serving()
        assert server.is_serving()
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with connected(url) as (transport, listener):
            server.close()
            assert server.sockets == () and not server.is_serving()
            with pytest.raises(OSError):
                while True:
                    await picows.ws_connect(Collector, url)
            # It stays.
            transport.send(TEXT, "x")
            assert await listener.queue.get() == (TEXT, b"x")
            if sys.version_info >= (3, 12):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(server.wait_closed(), 0.05)
            server.close_clients()
            await transport.wait_disconnected()
        await server.wait_closed()

    run(main())


def test_serve_forever_ends_when_it_is_cancelled(run):
    async def main():
        async with await picows.ws_create_server(lambda request: Echo(), "127.0.0.1", 0) as server:
            task = asyncio.ensure_future(server.serve_forever())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError):
                await server.serve_forever()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not server.is_serving()

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", ["127.0.0.1"], "localhost", None])
def test_hosts_are_those_of_create_server(run, host):
    async def main():
        server = await picows.ws_create_server(
            lambda request: Echo(), host, 0, family=socket.AF_INET
        )
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with connected(f"ws://127.0.0.1:{port}/") as (transport, listener):
                transport.send(TEXT, "x")
                assert await listener.queue.get() == (TEXT, b"x")

    run(main())


def test_a_socket_can_be_given(run):
    async def main():
        given = socket.socket()
        given.bind(("127.0.0.1", 0))
        server = await picows.ws_create_server(lambda request: Echo(), sock=given)
        async with server:
            async with connected(f"ws://127.0.0.1:{given.getsockname()[1]}/"):
                pass

    run(main())


@pytest.mark.parametrize(
    "arguments",
    [{}, {"host": "127.0.0.1", "port": 0, "sock": "one"}, {"host": "127.0.0.1", "strange": 1}],
    ids=["nothing", "both", "unknown"],
)
def test_arguments_that_make_no_sense_are_refused(run, arguments):
    async def main():
        if "sock" in arguments:
            arguments["sock"] = socket.socket()
        with pytest.raises((TypeError, ValueError)):
            await picows.ws_create_server(lambda request: Echo(), **arguments)

    run(main())


def test_an_address_in_use_is_named(run):
    async def main():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(OSError, match="bind on address"):
                await picows.ws_create_server(
                    lambda request: Echo(), "127.0.0.1", taken.getsockname()[1]
                )

    run(main())


def test_subprotocols_and_headers_of_the_answer(run):
    def factory(request):
        assert request.headers["Sec-WebSocket-Protocol"] == "a, b"
        headers = [("Sec-WebSocket-Protocol", "b"), ("X-One", "1"), ("X-One", "2")]
        response = picows.WSUpgradeResponse.create_101_response(headers)
        return picows.WSUpgradeResponseWithListener(response, Echo())

    async def main():
        offer = {"Sec-WebSocket-Protocol": "a, b"}
        async with served(factory) as url:
            async with connected(url, extra_headers=offer) as (transport, _):
                headers = transport.response.headers
                assert headers["sec-websocket-protocol"] == "b"
                assert headers.getall("x-one") == ["1", "2"]
                assert transport.request.headers["sec-websocket-version"] == "13"

    run(main())


@pytest.mark.parametrize("result", [None, 5, object()])
def test_what_is_no_listener_opens_nothing(run, result):
    async def main():
        async with served(lambda request: result) as url:
            with pytest.raises(picows.WSInvalidStatusError) as raised:
                await picows.ws_connect(Collector, url)
            assert int(raised.value.response.status) == (404 if result is None else 500)

    run(main())


def test_private_headers_stay_with_their_host(run):
    seen = []

    def target(request):
        seen.append(request.headers)
        return Echo()

    async def main():
        async with served(target) as last:

            def redirect(request):
                response = picows.WSUpgradeResponse.create_redirect_response(302, last)
                return picows.WSUpgradeResponseWithListener(response, None)

            async with served(redirect) as first:
                extra = {"Authorization": "x", "Cookie": "y", "X-Mine": "z", "Host": "example.com"}
                async with connected(first, extra_headers=extra):
                    pass
                assert seen[0]["X-Mine"] == "z"
                assert "Authorization" not in seen[0] and "Cookie" not in seen[0]
                assert seen[0]["Host"] == last[5:-1]
                with pytest.raises(picows.WSHandshakeError):
                    await picows.ws_connect(Collector, first, max_redirects=0)

    run(main())


@pytest.mark.parametrize("engine", ["native", "loop"])
def test_both_engines_serve(run, engine):
    async def main():
        opened = []

        class Server(Echo):
            def on_ws_connected(self, transport):
                opened.append((transport.engine, transport.is_secure))

        async with served(lambda request: Server(), engine=engine) as url:
            async with connected(url, engine=engine) as (transport, listener):
                assert transport.engine == engine and not transport.is_secure
                assert opened == [(engine, False)]
                for size in (0, 1, 1000, 3_000_000):
                    transport.send(TEXT, b"x" * size)
                    assert await listener.queue.get() == (TEXT, b"x" * size)
                peer = transport.underlying_transport.get_extra_info("peername")
                assert peer[0] == "127.0.0.1" and str(peer[1]) in url

    run(main())


def test_the_native_engine_refuses_tls():
    async def main():
        with pytest.raises(ValueError, match="native engine"):
            await picows.ws_connect(Collector, "wss://127.0.0.1:1/", engine="native")
        with pytest.raises(TypeError, match="ssl_context"):
            await picows.ws_connect(Collector, "ws://127.0.0.1:1/", ssl=True)

    asyncio.run(main())


@pytest.mark.parametrize("engine", ["native", "loop"])
def test_a_reader_that_stops_holds_its_peer_back(run, engine):
    async def main():
        class Source(picows.WSListener):
            paused = resumed = sent = 0

            def on_ws_connected(self, transport):
                self.transport = transport
                self.more()

            def more(self):
                while self.paused == self.resumed and self.sent < 2000:
                    self.sent += 1
                    self.transport.send(picows.WSMsgType.BINARY, b"x" * 10_000)

            def pause_writing(self):
                self.paused += 1

            def resume_writing(self):
                self.resumed += 1
                self.more()

        class Stopped(Collector):
            def on_ws_connected(self, transport):
                transport.underlying_transport.pause_reading()

        sources = []
        factory = lambda request: sources.append(Source()) or sources[-1]
        async with served(factory, engine=engine) as url:
            async with connected(url, Stopped, engine=engine) as (transport, listener):
                while not sources[0].paused:
                    await asyncio.sleep(0.001)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert sources[0].sent < 2000
                transport.underlying_transport.resume_reading()
                for _ in range(2000):
                    assert len((await listener.queue.get())[1]) == 10_000

    run(main())
