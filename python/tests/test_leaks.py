"""What connections leave behind."""

import asyncio
import gc
import os
import resource
import weakref

import pytest

import picows_uring as picows

from .conftest import Collector, Echo, served

TEXT = picows.WSMsgType.TEXT


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def resident_kib():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * resource.getpagesize() // 1024


class Remembered(Collector):
    """Keeps its transport, as many listeners do: a cycle until the end."""

    alive = None

    def __init__(self):
        super().__init__()
        Remembered.alive.add(self)

    def on_ws_connected(self, transport):
        super().on_ws_connected(transport)
        Remembered.alive.add(transport)


async def cycle(url, count, engine):
    for number in range(count):
        transport, listener = await picows.ws_connect(Remembered, url, engine=engine)
        transport.send(TEXT, str(number))
        await listener.queue.get()
        if number % 3 == 0:
            transport.send_close(picows.WSCloseCode.OK)
        transport.disconnect(number % 3 != 1)
        await transport.wait_disconnected()


async def refused(url, count):
    for _ in range(count):
        with pytest.raises(picows.WSHandshakeError):
            await picows.ws_connect(Remembered, url + "none")


@pytest.mark.parametrize("engine", ["native", "loop"])
def test_connections_leave_nothing(run, engine):
    Remembered.alive = weakref.WeakSet()

    async def main():
        def factory(request):
            return None if request.path == b"/none" else Echo()

        async with served(factory, engine=engine) as url:
            await cycle(url, 50, engine)
            await refused(url, 20)
            await settle()
            before = descriptors()
            await cycle(url, 100, engine)
            await refused(url, 50)
            await settle()
            # Sockets of the server close when their peers have gone.
            for _ in range(5000):
                if descriptors() <= before:
                    break
                await asyncio.sleep(0.001)
            assert descriptors() <= before
            assert len(Remembered.alive) == 0

    async def settle():
        for _ in range(2000):
            await asyncio.sleep(0.001)
            gc.collect(0)
            if not Remembered.alive:
                break
        gc.collect()

    run(main())


def test_memory_stays_flat():
    """As many connections and messages again take no more memory."""
    Remembered.alive = weakref.WeakSet()

    async def main():
        async with served() as url:
            await cycle(url, 1000, None)
            before = resident_kib()
            await cycle(url, 1000, None)
            return resident_kib() - before

    assert asyncio.run(main()) < 2000
