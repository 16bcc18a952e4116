"""Frames beyond their callback, and what is sent."""

import warnings

import numpy
import pytest

import picows_uring as picows

from .conftest import Collector, connected, served

TEXT, BINARY = picows.WSMsgType.TEXT, picows.WSMsgType.BINARY
SIZES = (1, 300, 5000, 70_000, 1_000_000)


class Keeper(Collector):
    """Keeps whatever the first frame can give."""

    def __init__(self):
        super().__init__()
        self.kept = None

    def on_ws_frame(self, transport, frame):
        super().on_ws_frame(transport, frame)
        if self.kept is None:
            view = frame.get_payload_as_memoryview()
            self.kept = {
                "frame": frame,
                "view": view,
                "slice": view[1:],
                "copy": memoryview(view),
                "array": numpy.frombuffer(view, numpy.uint8),
            }


@pytest.mark.parametrize("size", SIZES)
def test_views_that_are_kept_never_show_other_data(run, size):
    async def main():
        async with served() as url, connected(url, Keeper) as (transport, listener):
            first = bytes(range(1, 251)) * (size // 250 + 1)
            first = first[:size]
            transport.send(BINARY, first)
            await listener.queue.get()
            for _ in range(10):
                transport.send(BINARY, b"\xff" * 200_000)
                await listener.queue.get()
            kept = listener.kept
            assert bytes(kept["slice"]) == first[1:]
            assert bytes(kept["copy"]) == first
            assert kept["array"].tobytes() == first

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run(main())


def test_a_frame_that_is_kept_raises(run):
    class Once(Collector):
        def on_ws_frame(self, transport, frame):
            super().on_ws_frame(transport, frame)
            self.frame, self.view = frame, frame.get_payload_as_memoryview()

    async def main():
        async with served() as url, connected(url, Once) as (transport, listener):
            transport.send(TEXT, "hello")
            await listener.queue.get()
            frame = listener.frame
            assert (frame.msg_type, frame.payload_size, bool(frame.fin)) == (TEXT, 5, True)
            for method in (
                frame.get_payload_as_bytes,
                frame.get_payload_as_utf8_text,
                frame.get_payload_as_ascii_text,
                frame.get_payload_as_memoryview,
                frame.get_close_code,
            ):
                with pytest.raises(RuntimeError, match="copy it in the callback"):
                    method()
            with pytest.raises(ValueError):
                bytes(listener.view)

    run(main())


@pytest.mark.parametrize(
    "message",
    ["text", b"bytes", bytearray(b"array"), memoryview(b"view"), numpy.arange(3, dtype="u1"), None],
    ids=lambda it: type(it).__name__,
)
def test_payloads_of_each_type_are_sent(run, message):
    async def main():
        expected = b"" if message is None else message
        expected = expected.encode() if isinstance(expected, str) else bytes(expected)
        async with served() as url, connected(url) as (transport, listener):
            transport.send(BINARY, message)
            assert await listener.queue.get() == (BINARY, expected)

    run(main())


def test_what_cannot_be_sent_is_refused(run):
    async def main():
        async with served() as url, connected(url) as (transport, listener):
            with pytest.raises(TypeError):
                transport.send(BINARY, 5)
            with pytest.raises(ValueError, match="125"):
                transport.send_ping(b"x" * 126)
            for code in (1005, 1006, 5000):
                with pytest.raises(ValueError):
                    transport.send_close(code)
            transport.send(TEXT, "still open")
            assert await listener.queue.get() == (TEXT, b"still open")

    run(main())


def test_bytes_of_a_server_are_kept_by_reference_until_they_are_sent(run):
    import sys

    message = b"x" * 100_000
    before = sys.getrefcount(message)

    class Sender(picows.WSListener):
        def on_ws_frame(self, transport, frame):
            for _ in range(20):
                transport.send(BINARY, message)

    async def main():
        async with served(lambda request: Sender()) as url, connected(url) as (transport, listener):
            transport.send(TEXT, "go")
            for _ in range(20):
                assert (await listener.queue.get())[1] == message

    run(main())
    assert sys.getrefcount(message) == before


def test_frames_are_forwarded(run):
    class Forwarder(picows.WSListener):
        def on_ws_frame(self, transport, frame):
            transport.forward(frame)

    async def main():
        async with served(lambda request: Forwarder()) as url:
            async with connected(url) as (transport, listener):
                for size in (0, 10, 100_000):
                    transport.send(BINARY, b"y" * size)
                    assert await listener.queue.get() == (BINARY, b"y" * size)

    run(main())


def test_the_latest_of_a_key_is_sent(run):
    async def main():
        async with served() as url, connected(url) as (transport, listener):
            transport.send_latest(7, TEXT, "a")
            assert await listener.queue.get() == (TEXT, b"a")

    run(main())


def test_frames_for_tests_of_listeners():
    from picows_uring.picows import _make_test_ws_frame

    frame = _make_test_ws_frame(TEXT, b"abc", True, False)
    assert frame.get_payload_as_utf8_text() == "abc"
    assert bytes(frame.get_payload_as_memoryview()) == b"abc"
    assert str(frame).startswith("WSFrame(TEXT, fin=True")


def test_views_of_large_frames_may_go_on_another_thread(run):
    import threading

    class Views(Collector):
        def on_ws_frame(self, transport, frame):
            self.queue.put_nowait(frame.get_payload_as_memoryview()[1:])

    async def main():
        async with served() as url, connected(url, Views) as (transport, listener):
            for _ in range(5):
                transport.send(BINARY, b"z" * 1_000_000)
                views = [await listener.queue.get()]
                thread = threading.Thread(target=views.clear)
                thread.start()
                thread.join()
            # What is kept beyond the loop stays readable.
            transport.send(BINARY, b"w" * 1_000_000)
            return await listener.queue.get()

    view = run(main())
    assert bytes(view) == b"w" * 999_999


def test_a_frame_that_is_kept_is_not_used_for_others(run):
    class Keeping(Collector):
        def __init__(self):
            super().__init__()
            self.frames = []

        def on_ws_frame(self, transport, frame):
            super().on_ws_frame(transport, frame)
            if frame.payload_size < 3:
                self.frames.append(frame)

    async def main():
        async with served() as url, connected(url, Keeping) as (transport, listener):
            for message in (b"1", b"longer", b"22", b"longer", b"longer"):
                transport.send(BINARY, message)
                await listener.queue.get()
            first, second = listener.frames
            assert first is not second
            assert (first.payload_size, second.payload_size) == (1, 2)
            for frame in listener.frames:
                with pytest.raises(RuntimeError, match="copy it in the callback"):
                    frame.get_payload_as_bytes()

    run(main())
