"""Round trips with the client of picows, on uvloop: the next message from the callback."""

import argparse
import asyncio
import json
import time

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect


def seconds(text):
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text.rstrip("s"))


class Meter(WSListener):
    def __init__(self, args):
        self.payload = bytes([7]) * args.size
        self.warmup_ns = int(args.warmup * 1e9)
        self.end_ns = self.warmup_ns + int(args.duration * 1e9)
        self.taken_ns = []
        self.is_wrong = False

    def on_ws_connected(self, transport: WSTransport):
        self.begin_ns = self.sent_ns = time.perf_counter_ns()
        transport.send(WSMsgType.BINARY, self.payload)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame):
        if frame.msg_type != WSMsgType.BINARY or frame.get_payload_as_memoryview() != self.payload:
            self.is_wrong = True
            transport.disconnect()
            return
        now_ns = time.perf_counter_ns()
        if now_ns - self.begin_ns >= self.warmup_ns:
            self.taken_ns.append(now_ns - self.sent_ns)
        self.sent_ns = now_ns
        if now_ns - self.begin_ns < self.end_ns:
            transport.send(WSMsgType.BINARY, self.payload)
        else:
            transport.disconnect()


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url-addr", required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--duration", type=seconds, default="2s")
    parser.add_argument("--warmup", type=seconds, default="300ms")
    args = parser.parse_args()
    transport, meter = await ws_connect(lambda: Meter(args), f"ws://{args.url_addr}/")
    await transport.wait_disconnected()
    if meter.is_wrong or not meter.taken_ns:
        raise SystemExit("the echo is wrong, or none came")
    taken = sorted(meter.taken_ns)
    latency = {
        name: taken[min(int(quantile * len(taken)), len(taken) - 1)] / 1e3
        for name, quantile in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    }
    print(json.dumps({"rate_per_s": len(taken) / args.duration, "latency_us": latency}))


if __name__ == "__main__":
    uvloop.run(main())
