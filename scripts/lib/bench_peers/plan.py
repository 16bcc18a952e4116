"""Plan of what is measured, in which order. Runs nothing."""

import random
import re
from typing import NamedTuple

CELLS = (
    "1x1x256", "64x1x32", "64x1x256", "64x16x256", "64x64x32", "64x1x8192", "8x1x16384",
    "8x1x100000", "8x1x1048576", "1000x1x256", "5000x1x256",
)
CELLS_QUICK = ("1x1x256", "64x1x256", "64x16x256", "8x1x100000")
# The last part of a case says what the load puts into a record: all that goes out together, or a frame.
CELLS_TLS = ("64x1x256-full", "64x16x256-full", "64x16x256-each", "8x1x16384-full")
SIZES_RTT = (256, 8192, 100_000)
# Sections that are measured as `echo` is, with cells and servers of their own.
CELLS_OF = {
    "driver-epoll": ("1x1x256", "64x1x256", "64x16x256", "8x1x16384", "1000x1x256"),
    "embedded": ("1x1x256", "64x1x256", "64x16x256", "8x1x16384"),
    "python": ("1x1x256", "64x1x256", "64x16x256"),
    "multi-worker": ("64x1x256", "64x16x256", "1000x1x256"),
}
# Connections under way at a time: as many as one loop likes, and a storm.
CONNECTS = ("64", "512")
# In the middle of a load.
RESTARTS = {
    "still": "none",
    "takeover": "the next process takes over the listening socket",
    "stop-start": "the old process is stopped, then the next is started",
}
# Publications in flight.
PIPELINES_TOPICS = (1, 16, 64)
SECTIONS = {
    "echo": "server CPU per message and rate, for each cell",
    "peak": "the highest rate, from which the rates of `open` follow",
    "open": "latency at 50 % and 80 % of the highest rate, in open loop",
    "rtt": "round trips of client libraries, to a server that sleeps and one that spins",
    "fan-out": "one message to many subscribers",
    "topics": "publications of one client to the subscribers of a topic, 1, 16 and 64 in flight",
    "topics-cost": "what a publication costs its publisher, and what slow subscribers hold",
    "deflate": "compressed echo of 1 KiB of JSON, with context takeover and without: server CPU and bytes on the wire; "
               "and one message that is compressed once, to many",
    "connect": "connections accepted and upgraded, few at a time and in a storm",
    "restart": "connects that come while one process ends and the next begins, with a takeover and without",
    "syscalls": "system calls per message",
    "idle": "memory of an idle connection",
    "driver-epoll": "server CPU per message on the driver epoll",
    "embedded": "server CPU per message of a worker in a loop of poll",
    "python": "server CPU per message of servers in Python",
    "multi-worker": "server CPU per message of two workers, on both cores and beside the load",
    "tls": "server CPU per message over TLS 1.3",
    "tls-connect": "connections accepted, encrypted and upgraded, without resumption, few at a time and in a storm",
    "tls-idle": "memory of an idle connection over TLS",
}


class Cell(NamedTuple):
    """Connections x messages in flight on each x bytes of payload."""

    connections: int
    pipeline: int
    size_bytes: int

    @classmethod
    def parse(cls, text):
        match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text.strip())
        if not match or "0" in match.groups()[:2]:
            raise ValueError(f"'{text}' is not CONNECTIONSxPIPELINExBYTES, such as 64x1x256")
        return cls(*map(int, match.groups()))

    def __str__(self):
        return "x".join(map(str, self))

    def request_bytes(self):
        """Length of a masked frame (RFC 6455 §5.2)."""
        size = self.size_bytes
        return size + 2 + 4 + (0 if size < 126 else 2 if size < 65536 else 8)


class Run(NamedTuple):
    """One measurement. Two runs with the same name are the same run, done twice."""

    section: str
    case: str
    peer: str
    round: int

    def __str__(self):
        return f"{self.section} {self.case}, {self.peer}, round {self.round}"


class Settings(NamedTuple):
    """What was asked for; kept in the record, so that a resumed run does the same."""

    seed: int
    rounds: int
    duration_s: float
    warmup_s: float
    sections: list
    cells: list
    sizes_rtt: list
    subscribers: int
    idle_connections: int
    steal_percent_max: float

    @classmethod
    def full(cls, seed):
        return cls(
            seed, 8, 0.4, 0.15, list(SECTIONS), list(CELLS), list(SIZES_RTT), 1000, 10_000, 3.0
        )

    @classmethod
    def quick(cls, seed):
        return cls(
            seed, 2, 0.25, 0.1, list(SECTIONS), list(CELLS_QUICK), [256], 200, 1000, 3.0
        )

    def rounds_of(self, section):
        """The matrix has all rounds; what is compared by eye, or does not vary, has fewer."""
        fewer = {"peak": 2, "open": 8, "rtt": 8, "fan-out": 4, "topics": 5, "topics-cost": 3, "deflate": 4, "connect": 4, "restart": 4, "syscalls": 1, "idle": 1,
                 "tls-connect": 4, "tls-idle": 1, "multi-worker": 6}
        return min(self.rounds, fewer.get(section, self.rounds))

    def cases_of(self, section):
        return {
            **CELLS_OF,
            "echo": self.cells,
            "peak": ["64x1x256"],
            "open": ["50", "80"],
            "rtt": [f"{size}-{way}" for way in ("sleeping", "spinning") for size in self.sizes_rtt],
            "fan-out": [f"{self.subscribers}x256"],
            "topics": [f"{self.subscribers}x{pipeline}x256" for pipeline in PIPELINES_TOPICS],
            "topics-cost": [f"{what}-{self.subscribers * 10}" for what in ("publish", "latest", "oldest")],
            "deflate": ["context", "no-context", "fan-out-plain", "fan-out"],
            "connect": CONNECTS,
            "restart": list(RESTARTS),
            "syscalls": ["1x1x256", "64x16x256"],
            "idle": [str(self.idle_connections)],
            "tls": CELLS_TLS,
            "tls-connect": CONNECTS,
            "tls-idle": [str(self.idle_connections)],
        }[section]


def runs(settings, peers_of):
    """Every run in order: rounds over cases, and within a case the peers take turns, shuffled.

    `peers_of` gives the names of those that take part in a section. The order depends on nothing
    but the seed, so that a resumed run goes on as it would have.
    """
    for section in settings.sections:
        for number in range(1, settings.rounds_of(section) + 1):
            for case in settings.cases_of(section):
                peers = list(peers_of(section))
                order = random.Random(f"{settings.seed}/{section}/{case}/{number}")
                for peer in order.sample(peers, len(peers)):
                    yield Run(section, case, peer, number)


def seconds_of(settings, run):
    """About how long a run takes, with what starts and settles around it."""
    window, warmup = settings.duration_s, settings.warmup_s
    if run.section in ("idle", "tls-idle"):
        return BETWEEN_S + int(run.case) * (CONNECT_TLS_S if run.section == "tls-idle" else CONNECT_S)
    if run.section == "restart":
        return BETWEEN_S + 4 * window + warmup + 2 * START_S
    if run.section == "topics-cost":
        return BETWEEN_S + int(run.case.split("-")[1]) * CONNECT_S
    if run.section == "syscalls":
        return BETWEEN_S + 5 * window + 1
    if run.section in ("open", "topics"):
        return BETWEEN_S + 2 * window + warmup + DRAIN_S
    if run.section == "rtt":
        # Each has a server of its own.
        return BETWEEN_S + window + warmup + START_S
    connections = re.match(r"\d+", run.case)
    return BETWEEN_S + window + warmup + (int(connections[0]) * CONNECT_S if connections else 0)


# A load that starts, a server that settles.
BETWEEN_S, START_S, DRAIN_S = 0.25, 0.2, 0.5
# For each connection, opened one after the other.
CONNECT_S, CONNECT_TLS_S = 0.0002, 0.002


def is_calm(steal_share, percent_max):
    return steal_share * 100 <= percent_max


class Reruns:
    """Runs again what was disturbed, a bounded number of times altogether."""

    ATTEMPTS_MAX = 4

    def __init__(self, planned, percent_max):
        # A fifth as many again at most.
        self.left = planned // 5
        self.percent_max = percent_max

    def calmest(self, measure):
        """Calls `measure`, which gives figures and a share of steal, until little was stolen."""
        best = None
        for attempt in range(1, self.ATTEMPTS_MAX + 1):
            figures, steal = measure()
            if best is None or steal < best[1]:
                best = figures, steal
            if is_calm(best[1], self.percent_max) or self.left == 0 or attempt == self.ATTEMPTS_MAX:
                return *best, attempt
            self.left -= 1
        raise AssertionError("an attempt always returns")
