"""Figures of the rounds of a record: the lowest and the median, ratios, and the goals."""

import statistics

from . import peers
from .plan import Cell

CPU = "server_cpu_us_per_message"
DELIVERY = "server_cpu_us_per_delivery"
WIRE = "wire_bytes_per_message"
PIPELINED = {"64x16x256", "64x64x32"}
LARGE_BYTES = 16 * 1024
# What the rounds of the same server differ by here.
NOISE = 1.03


class Figures:
    def __init__(self, record):
        self.record = record

    def cases(self, section):
        """Those with a result, in the order of the settings."""
        found = {run.case for run in self.record.results if run.section == section}
        return [case for case in map(str, self.record.settings.cases_of(section)) if case in found]

    def peers(self, section):
        found = set(self.record.peers(section))
        return [name for name in peers.names_of(section) if name in found]

    def lowest(self, section, case, peer, name):
        return min(self.record.values(section, case, peer, name), default=None)

    def median(self, section, case, peer, name):
        values = self.record.values(section, case, peer, name)
        return statistics.median(values) if values else None

    def highest(self, section, case, peer, name):
        return max(self.record.values(section, case, peer, name), default=None)

    def best_peer(self, section, case, name):
        """The peer with the lowest of the lowest, and that."""
        candidates = peers.PEER_CLIENTS if section == "rtt" else peers.peer_servers(self.peers(section))
        found = [(self.lowest(section, case, peer, name), peer) for peer in candidates]
        low, peer = min(((low, peer) for low, peer in found if low is not None), default=(None, None))
        return peer, low

    def best_highest(self, section, case, name):
        """The highest of all peers."""
        values = (self.highest(section, case, peer, name) for peer in peers.peer_servers(self.peers(section)))
        return max((value for value in values if value is not None), default=None)

    def best_library(self, case):
        """The library with the lowest of the lowest in `echo`, and that; loops by hand are none."""
        found = [(self.lowest("echo", case, peer, CPU), peer) for peer in peers.libraries(self.peers("echo"))]
        low, peer = min(((low, peer) for low, peer in found if low is not None), default=(None, None))
        return peer, low

    def to_floor(self, case, peer):
        return ratio(self.lowest("echo", case, peer, CPU), self.lowest("echo", case, peers.FLOOR, CPU))

    def to_best_peer(self, case, peer):
        return ratio(self.lowest("echo", case, peer, CPU), self.best_peer("echo", case, CPU)[1])

    def disturbance(self):
        """How calm the session was: runs, runs above the limit, reruns, median steal."""
        lines = list(self.record.results.values())
        steal = [line["steal_share"] * 100 for line in lines]
        other = [
            line["figures"]["other_cpu_share_of_machine"] * 100
            for line in lines if "other_cpu_share_of_machine" in line["figures"]
        ]
        limit = self.record.settings.steal_percent_max
        return {
            "runs": len(lines),
            "disturbed": sum(share > limit for share in steal),
            "reruns": sum(line["attempts"] - 1 for line in lines),
            "steal_percent_median": statistics.median(steal) if steal else 0,
            "other_percent_median": statistics.median(other) if other else 0,
        }


def ratio(value, base):
    return value / base if value is not None and base else None


def rounded(value):
    return value if value is None else round(value, 2)


def goals(figures):
    """(what, goal, found, whether it is reached), for each that can be told from the record."""
    yield from cpu_goals(figures)
    yield from burst_goals(figures)
    yield from open_loop_goals(figures)
    yield from round_trip_goals(figures)
    yield from deflate_goals(figures)
    yield from tls_goals(figures)
    for case, most in (("1x1x256", 2), ("64x16x256", 0.1)):
        for peer in peers.OURS:
            # Timers and the ends of a run are in it: a few in ten thousand messages.
            found = rounded(figures.lowest("syscalls", case, peer, "syscalls_per_message"))
            yield from at_most(f"{case}: system calls per message, {peer}", most, found)


def deflate_goals(figures):
    """Against each peer that sends no more bytes, or up to 5 % fewer."""
    for case, most in (("context", 0.75), ("no-context", 0.85)):
        size = figures.lowest("deflate", case, "picows-uring", WIRE)
        names = peers.peer_servers(figures.peers("deflate"))
        sizes = {name: figures.lowest("deflate", case, name, WIRE) for name in names}
        alike = [name for name, other in sizes.items() if size and other and size <= 1.05 * other]
        lows = [figures.lowest("deflate", case, name, CPU) for name in alike]
        best = min((low for low in lows if low is not None), default=None)
        found = ratio(figures.lowest("deflate", case, "picows-uring", CPU), best)
        yield from at_most(f"compression, {case}: picows-uring to the best peer of 5 % fewer bytes at the most", most, found)
    plain, compressed = (
        figures.lowest("deflate", case, "picows-uring", DELIVERY) for case in ("fan-out-plain", "fan-out")
    )
    yield from at_most("fan-out of a prepared message: compressed to plain, a delivery", 1.10, ratio(compressed, plain))


def cpu_goals(figures):
    for case in figures.cases("echo"):
        size = Cell.parse(case).size_bytes
        hosted = 1.08 if size <= LARGE_BYTES else 1.10
        most = {"picows-uring": 1.25, "dedicated": 1.25} if case in PIPELINED else {"picows-uring": hosted, "dedicated": 1.05}
        for peer in peers.OURS:
            low = figures.lowest("echo", case, peer, CPU)
            yield from at_most(f"{case}: {peer} to the floor", most[peer], figures.to_floor(case, peer))
            found = ratio(low, figures.best_library(case)[1])
            yield from at_most(f"{case}: {peer} to the best library", 1.0 if size >= LARGE_BYTES else NOISE, found)
            by_hand = figures.lowest("echo", case, "epoll", CPU)
            yield from at_most(f"{case}: {peer} to epoll by hand", 1.05, ratio(low, by_hand))
    yield from host_goals(figures)


def host_goals(figures):
    """On epoll, and in a loop of the application."""
    for case in figures.cases("driver-epoll"):
        low = {peer: figures.lowest("driver-epoll", case, peer, CPU) for peer in (*peers.OURS, *peers.BY_HAND)}
        what = f"driver epoll, {case}"
        yield from at_most(f"{what}: dedicated to epoll by hand", 1.05, ratio(low["dedicated"], low["epoll"]))
        yield from at_most(f"{what}: picows-uring to tokio by hand", 1.05, ratio(low["picows-uring"], low["tokio"]))
    case = "1x1x256"
    low = {peer: figures.lowest("embedded", case, peer, CPU) for peer in ("embedded", "dedicated")}
    yield from at_most(f"{case}: embedded to dedicated", 1.10, ratio(low["embedded"], low["dedicated"]))


def tls_goals(figures):
    for peer in peers.OURS:
        for case, most in (("64x1x256-full", 0.80), ("8x1x16384-full", 0.75)):
            low = figures.best_peer("tls", case, CPU)[1]
            found = ratio(figures.lowest("tls", case, peer, CPU), low)
            yield from at_most(f"TLS, {case[:-5]}: {peer} to the best peer", most, found)
        case = "64x16x256-full"
        for other in ("tokio-tungstenite", "fastwebsockets"):
            found = ratio(figures.lowest("tls", case, peer, CPU), figures.lowest("tls", case, other, CPU))
            yield from at_most(f"TLS, {case[:-5]}: {peer} to {other}", 0.1, found)
        best = figures.best_highest("tls-connect", "64", "connections_per_s")
        found = ratio(best, figures.highest("tls-connect", "64", peer, "connections_per_s"))
        # 0.97 of the best peer's rate.
        yield from at_most(f"TLS handshakes: the best peer's rate to that of {peer}", 1 / 0.97, found)
    case = next(iter(figures.cases("tls-idle")), None)
    if case is not None:
        found = figures.lowest("tls-idle", case, "picows-uring", "bytes_per_connection")
        yield from at_most("TLS: bytes of an idle connection, picows-uring", 2450, found)


def burst_goals(figures):
    case = "64x16x256"
    for peer in peers.OURS:
        for other in ("tokio-tungstenite", "fastwebsockets", "tokio-websockets"):
            found = ratio(figures.lowest("echo", case, peer, CPU), figures.lowest("echo", case, other, CPU))
            yield from at_most(f"{case}: {peer} to {other}", 0.1, found)


def open_loop_goals(figures):
    name = "latency_p99.9_us"
    for peer in peers.OURS:
        best = figures.best_peer("open", "80", name)[1]
        found = ratio(figures.lowest("open", "80", peer, name), best)
        yield from at_most(f"open loop at 80 %: p99.9 of {peer} to the best peer's", 1.0, found)


def round_trip_goals(figures):
    name = "latency_p50_us"
    for size in figures.record.settings.sizes_rtt:
        # Of one server each, except the last: what spinning gains when both ends do it.
        sleeping, spinning = f"{size}-sleeping", f"{size}-spinning"
        for server, case in (("sleeping", sleeping), ("spinning", spinning)):
            best = figures.best_peer("rtt", case, name)[1]
            found = ratio(figures.lowest("rtt", case, "spinning", name), best)
            what = f"round trip of {size} bytes, client spinning, server {server}, to the best peer's client"
            yield from at_most(what, 0.25, found)
        best = figures.best_peer("rtt", sleeping, name)[1]
        found = ratio(figures.lowest("rtt", spinning, "spinning", name), best)
        what = f"round trip of {size} bytes, both ends spinning, to the best peer's client and a sleeping server"
        yield from at_most(what, 0.25, found)
        beast = figures.lowest("rtt", sleeping, "beast", name)
        for client in ("picows-uring", "dedicated"):
            found = ratio(figures.lowest("rtt", sleeping, client, name), beast)
            yield from at_most(f"round trip of {size} bytes, blocking, {client}, to Beast's client", 1.0, found)


def at_most(what, most, found):
    if found is not None:
        yield what, most, found, found <= most
