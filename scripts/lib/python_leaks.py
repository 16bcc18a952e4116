"""Leak check of the Python package: python_leaks.py CYCLES SECONDS. See scripts/leaks."""

import asyncio
import gc
import os
import resource
import sys
import time

import picows_uring as picows

BINARY = picows.WSMsgType.BINARY
ENGINES = ("native", "loop")
SIZES = (0, 1, 125, 126, 1000, 65_535, 65_536, 300_000)
GROWTH_KIB_MAX = 1024
WARM_UP_ECHOES = 2000
PAYLOAD = bytes(max(SIZES))


class Echo(picows.WSListener):
    """Sends frames back, and answers CLOSE."""

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Client(picows.WSListener):
    """Hands sizes of frames to a queue, and keeps its transport: a cycle until the end."""

    def __init__(self):
        self.sizes = asyncio.Queue()

    def on_ws_connected(self, transport):
        self.transport = transport

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == BINARY:
            self.sizes.put_nowait(frame.payload_size)


def held():
    """Open descriptors and resident memory in KiB."""
    gc.collect()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * resource.getpagesize() // 1024


async def expect_flat(what, before):
    """Fails the process unless it holds what it held before."""
    for _ in range(5000):
        # Sockets of the server close when their peers have gone.
        if len(os.listdir("/proc/self/fd")) <= before[0]:
            break
        await asyncio.sleep(0.001)
    now = held()
    print(f"{what}: {now[0]} descriptors, {now[1] - before[1]} KiB more", flush=True)
    if now[0] != before[0] or now[1] - before[1] > GROWTH_KIB_MAX:
        sys.exit(f"leaks: {what} leave something behind: {before} before, {now} after")


async def cycles(url, engine, count):
    """Connects and closes, in one of three ways each; the refused ones besides."""
    for number in range(count):
        if number % 5 == 0:
            try:
                await picows.ws_connect(Client, url + "none", engine=engine)
            except picows.WSHandshakeError:
                pass
            continue
        transport, client = await picows.ws_connect(Client, url, engine=engine)
        transport.send(BINARY, b"x" * (number % 300))
        assert await client.sizes.get() == number % 300
        if number % 3 == 0:
            transport.send_close(picows.WSCloseCode.OK)
        transport.disconnect(number % 3 != 1)
        await transport.wait_disconnected()


async def echoes(client, is_over):
    """Sends one message after the other, each when the one before is back; their number."""
    count = 0
    while not is_over(count):
        size = SIZES[count % len(SIZES)]
        client.transport.send(BINARY, PAYLOAD[:size])
        assert await client.sizes.get() == size
        count += 1
    return count


async def main(count, seconds):
    def factory(request):
        return None if request.path == b"/none" else Echo()

    servers = [
        await picows.ws_create_server(factory, "127.0.0.1", 0, engine=engine) for engine in ENGINES
    ]
    urls = [f"ws://127.0.0.1:{it.sockets[0].getsockname()[1]}/" for it in servers]
    for url, engine in zip(urls, ENGINES):
        await cycles(url, engine, max(count // 10, 10))
        before = held()
        await cycles(url, engine, count)
        await expect_flat(f"{count} cycles, {engine}", before)

    clients = [
        (await picows.ws_connect(Client, url, engine=engine))[1]
        for url, engine in zip(urls, ENGINES)
    ]
    await asyncio.gather(*(echoes(it, lambda done: done >= WARM_UP_ECHOES) for it in clients))
    before, end = held(), time.monotonic() + seconds
    done = await asyncio.gather(*(echoes(it, lambda _: time.monotonic() >= end) for it in clients))
    await expect_flat(f"{seconds} s of echo ({done[0]} and {done[1]} messages)", before)
    for client in clients:
        client.transport.disconnect(False)
        await client.transport.wait_disconnected()
    for server in servers:
        server.close()


asyncio.run(main(*map(int, sys.argv[1:3])))
