"""websocat 1.x: lines, standard input as it comes, and large messages.

`-n --max-messages-rev N` is the deterministic echo: without `-n` it closes at the end of input and
late replies are lost, with `-n` alone it never ends.
"""

import base64
import os
import subprocess
import tempfile
import threading

from wire import eventually


def lines_through(websocat, url, lines, *flags):
    """Sends `lines` and returns the lines that came back."""
    done = subprocess.run(
        [websocat, "-n", "--max-messages-rev", str(len(lines)), *flags, url],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def bytes_through(websocat, url, data, *flags):
    """Sends `data` as binary messages cut as websocat likes, and returns as many bytes.

    They go to a file: now and then websocat forgets the rest of what a pipe took a part of, whatever
    the server, when the machine is busy.
    """
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [websocat, "-n", "-b", *flags, url], stdin=subprocess.PIPE, stdout=out, stderr=subprocess.DEVNULL
        )

        def write():
            process.stdin.write(data)
            process.stdin.close()

        def size():
            return os.fstat(out.fileno()).st_size

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        try:
            eventually(lambda: size() >= len(data), lambda: f"{len(data)} bytes back, not {size()}")
        finally:
            process.kill()
            process.wait()
            writer.join()
        out.seek(0)
        return out.read()


def test_lines_of_text(websocat, server):
    # None is empty: websocat takes an empty message for the end.
    lines = ["Hello", "two words", "grüße 👋 здравствуй", "x" * 125, "y" * 126, "z" * 4000]
    assert lines_through(websocat, server.url, lines, "-t") == lines


def test_1000_lines_through_one_pipe_stay_in_order(websocat, server):
    lines = [f"line {number}" for number in range(1000)]
    assert lines_through(websocat, server.url, lines) == lines


def test_binary_standard_input(websocat, server):
    data = bytes(range(256)) * 8
    assert bytes_through(websocat, server.url, data) == data


def test_1_mib_of_binary_standard_input(websocat, server):
    data = os.urandom(1 << 20)
    assert bytes_through(websocat, server.url, data) == data


def test_one_binary_message_of_1_mib(websocat, server):
    """Through base64, one line is one message, whatever the pipe's chunks are."""
    data = os.urandom(1 << 20)
    line = "B" + base64.b64encode(data).decode()
    flags = ["-B", str(4 << 20), "--base64", "--binary-prefix", "B", "--text-prefix", "T"]
    (answer,) = lines_through(websocat, server.url, [line], *flags)
    assert answer == line


def test_one_text_message_of_1_mib(websocat, server):
    line = "abcdefgh" * (1 << 17)
    assert lines_through(websocat, server.url, [line], "-B", str(4 << 20)) == [line]


def test_closes_at_the_end_of_input(websocat, server):
    """Without `-n` websocat sends CLOSE and waits for ours."""
    done = subprocess.run([websocat, server.url], input=b"", capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_unix_socket(websocat, start_server, socket_path):
    start_server(listen=[f"unix:{socket_path}"])
    lines = ["over", "a", "unix", "socket"]
    done = subprocess.run(
        [websocat, "-n", "--max-messages-rev", "4", "-t", "-", f"ws-c:unix:{socket_path}", "--ws-c-uri=ws://localhost/"],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == lines
