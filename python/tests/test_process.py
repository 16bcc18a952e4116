"""Threads, forks, the end of loops and of the interpreter."""

import asyncio
import textwrap
import threading
import warnings

import pytest

import picows_uring as picows

from .conftest import Collector, connected, served

TEXT = picows.WSMsgType.TEXT


def test_each_thread_has_a_worker():
    async def main():
        async with served() as url, connected(url) as (transport, listener):
            for number in range(200):
                transport.send(TEXT, str(number))
                assert (await listener.queue.get())[1] == str(number).encode()

    failures = []

    def run():
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_methods_name_the_wrong_thread(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with served() as url, connected(url) as (transport, _):
            calls = {
                "send": lambda: transport.send(TEXT, b"x"),
                "send_latest": lambda: transport.send_latest(1, TEXT, b"x"),
                "disconnect": transport.disconnect,
                "notify_user_specific_pong_received": transport.notify_user_specific_pong_received,
                "underlying_transport.write": lambda: transport.underlying_transport.write(b"x"),
            }
            for name, call in calls.items():
                with pytest.raises(RuntimeError, match=f"WSTransport.{name} called from a wrong"):
                    await loop.run_in_executor(None, call)
            for message in (b"x", "x", bytearray(b"x"), None, b"x" * 2000):
                with pytest.raises(RuntimeError, match="WSTransport.send called from a wrong"):
                    await loop.run_in_executor(None, transport.send, TEXT, message)
            with pytest.raises(RuntimeError, match="WSTransport.send called from a wrong"):
                await loop.run_in_executor(None, transport.send, picows.WSMsgType.CLOSE, b"x")
            transport.disconnect()
            for _ in range(2):
                with pytest.raises(RuntimeError, match="WSTransport.send called from a wrong"):
                    await loop.run_in_executor(None, transport.send, TEXT, b"x")
                await transport.wait_disconnected()

    run(main())


def test_loops_follow_each_other_on_a_thread(run):
    async def main():
        ends = []

        class Ends(Collector):
            def on_ws_disconnected(self, transport):
                ends.append(transport.is_disconnected)

        server = await picows.ws_create_server(lambda request: Ends(), "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await picows.ws_connect(Ends, url)
        return ends

    for _ in range(3):
        # Both ends were open when the loop ended.
        assert run(main()) == [True, True]


def test_a_loop_that_was_only_closed_is_followed_by_another():
    async def main():
        server = await picows.ws_create_server(lambda request: Collector(), "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        transport, _ = await picows.ws_connect(Collector, url)
        return transport

    for _ in range(3):
        loop = asyncio.new_event_loop()
        transport = loop.run_until_complete(main())
        loop.close()
        # There is no loop to send with, and nothing breaks.
        transport.send(TEXT, b"x")
        transport.disconnect()


def test_two_loops_at_once_on_a_thread_are_refused():
    async def main():
        return await picows.ws_create_server(lambda request: Collector(), "127.0.0.1", 0)

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first.run_until_complete(main())
        with pytest.raises(RuntimeError, match="close that loop first"):
            second.run_until_complete(main())
    finally:
        first.run_until_complete(first.shutdown_asyncgens())
        first.close()
        second.close()


def test_the_interpreter_ends_with_open_connections(run_script):
    output = run_script(
        """
        transports = []

        async def main():
            server, url = await serve()
            for _ in range(3):
                transports.append(await picows.ws_connect(Echo, url))
            transports[0][0].send(picows.WSMsgType.BINARY, b"x" * 1_000_000)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        print("end")
        """
    )
    assert output.splitlines()[0] == "end"
    assert "Traceback" not in output and "Fatal" not in output


FORK = """
import gc, signal

class Client(Echo):
    got = 0

    def on_ws_frame(self, transport, frame):
        Client.got += frame.payload_size


async def main():
    server, url = await serve()
    transport, _ = await picows.ws_connect(Client, url)
    transport.send(picows.WSMsgType.BINARY, b"x" * 1_000_000)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            CHILD
        finally:
            os._exit(9)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        await asyncio.sleep(0.001)
    transport.send(picows.WSMsgType.TEXT, "y")
    while Client.got < 1_000_001:
        await asyncio.sleep(0.001)
    print("parent", Client.got, os.waitstatus_to_exitcode(status))


asyncio.run(main())
"""


@pytest.mark.parametrize(
    "child",
    [
        "os._exit(0)",
        "sys.exit(0)",
        "gc.collect(); os._exit(0)",
        "refuse(transport); os._exit(0)",
        "own(); os._exit(0)",
    ],
)
def test_a_child_of_fork_leaves_its_parent_alone(run_script, child):
    helpers = '''
def refuse(transport):
    for call in (lambda: transport.send(picows.WSMsgType.TEXT, b"x"), transport.disconnect):
        try:
            call()
        except RuntimeError as error:
            assert "child of fork" in str(error), error
        else:
            os._exit(8)


def own():
    async def main():
        server, url = await serve()
        transport, listener = await picows.ws_connect(Client, url)
        transport.send(picows.WSMsgType.TEXT, "child")
        before = Client.got
        while Client.got < before + 5:
            await asyncio.sleep(0.001)
        transport.disconnect()
        await transport.wait_disconnected()

    asyncio.run(main())

'''
    code = FORK.replace("CHILD", child)
    if child == "sys.exit(0)":
        # Leaves by the exception, through the interpreter's own end.
        code = code.replace("finally:\n            os._exit(9)", "finally:\n            pass")
    output = run_script(helpers + code)
    assert "parent 1000001 0" in output


@pytest.mark.parametrize(
    "children",
    [
        """
            context = multiprocessing.get_context("fork")
            process = context.Process(target=gc.collect)
            process.start()
            while process.is_alive():
                await asyncio.sleep(0.001)
            process.join()
            status = process.exitcode
        """,
        """
            command = [sys.executable, "-c", "import sys; sys.exit(0)"]
            process = subprocess.Popen(command, preexec_fn=gc.collect)
            while process.poll() is None:
                await asyncio.sleep(0.001)
            status = process.returncode
        """,
    ],
    ids=["multiprocessing", "preexec_fn"],
)
def test_children_of_modules_leave_their_parent_alone(run_script, children):
    code = FORK[: FORK.index("    child = os.fork()")].replace(
        "import gc, signal", "import gc, multiprocessing, subprocess"
    )
    code += textwrap.indent(textwrap.dedent(children), "    ")
    code += """
    transport.send(picows.WSMsgType.TEXT, "y")
    while Client.got < 1_000_001:
        await asyncio.sleep(0.001)
    print("parent", Client.got, status)


asyncio.run(main())
"""
    assert "parent 1000001 0" in run_script(code)


def test_a_worker_that_is_collected_elsewhere_is_named():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        kept = []

        def run():
            loop = asyncio.new_event_loop()

            async def main():
                server = await picows.ws_create_server(lambda request: Collector(), "127.0.0.1", 0)
                from picows_uring.picows import worker_of

                kept.append(worker_of(loop))
                return server

            kept.append(loop.run_until_complete(main()))
            kept.append(loop)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        kept[0].close()
        kept.pop().close()
    assert any("not closed on the thread of its loop" in str(it.message) for it in seen)
