"""Peers that take part: how each server and client is started, and what it needs to be built.

The order here is the order of the tables.
"""

from typing import NamedTuple, Optional

from server import Failure

from .plan import CELLS_OF, Cell

LISTEN = ("--listen", "127.0.0.1:0")
TLS = ("--tls-cert", "{certificate}", "--tls-key", "{key}")
OURS = ("picows-uring", "dedicated")
# Ours in other hosts or with other features, which no goal is about.
OURS_TOO = ("hosted-by-tokio", "embedded", "python", "picows-uring-libdeflate")
# Loops by hand over our protocol crate: peers, but no libraries.
BY_HAND = ("epoll", "tokio")
ON_EPOLL = ("--driver", "epoll")
TWO_WORKERS = ("--workers", "2")


def deflating(*argv, context=(), no_context=()):
    """Commands of a server that compresses, with context takeover and without."""
    return {"context": (*argv, *context), "no-context": (*argv, *no_context)}


FLOOR = "floor"
READY_SENDS = "ready sends"


class Peer(NamedTuple):
    """`{name}` in a command is a program of its kit."""

    name: str
    about: str
    kit: str
    echo: tuple = ()
    fan_out: tuple = ()
    tls: tuple = ()
    # By the cases of the section.
    deflate: dict = {}
    # Where it has topics; elsewhere `fan_out` serves for them.
    topics: tuple = ()
    topics_cost: tuple = ()
    # In sections that are measured as `echo` is, by their names.
    more: dict = {}
    # Longest payload that it takes; None for longer ones than are measured.
    payload_bytes_max: Optional[int] = None
    # It answers that no context is kept to a client that has not offered that, and reads one offer only.
    imposes_no_context: bool = False

    def has_case(self, section, case):
        """Whether it can do a case of a section that it takes part in."""
        if section == "deflate":
            return case in self.deflate
        if section == "echo" and self.payload_bytes_max is not None:
            return Cell.parse(case).size_bytes <= self.payload_bytes_max
        return True

    def takes_part(self, section):
        if section in CELLS_OF:
            return section in self.more
        if section == "deflate":
            return bool(self.deflate)
        if section == "topics":
            return bool(self.topics or self.fan_out)
        if section == "topics-cost":
            return bool(self.topics_cost)
        if not self.echo:
            return False
        if section == "restart":
            return self.name in OURS
        if section == "fan-out":
            return bool(self.fan_out)
        if section.startswith("tls"):
            return bool(self.tls)
        # The floor does handshakes one by one, and answers each cell with a frame of its own.
        return self.name != FLOOR or section in ("echo", "syscalls")


SERVERS = (
    Peer(
        FLOOR, "a ring that answers every N bytes with a ready frame, and parses nothing", "ours",
        ("{floor}", *LISTEN),
    ),
    Peer(
        "picows-uring", "`picows echo --workers 1`: hosted, on tokio-uring", "ours",
        ("{picows}", "echo", "--workers", "1", *LISTEN), ("{picows_uring_fan_out}", *LISTEN),
        ("{picows}", "echo", "--workers", "1", *LISTEN, *TLS),
        deflating("{picows}", "echo", "--workers", "1", "--deflate", *LISTEN, no_context=["--deflate-no-context"]) | {
            "fan-out-plain": ("{picows_uring_fan_out}", "--prepared", *LISTEN),
            "fan-out": ("{picows_uring_fan_out}", "--prepared", "--deflate", *LISTEN),
        },
        ("{picows}", "pubsub", "--workers", "1", *LISTEN), ("{topics_cost}",),
        more={
            "driver-epoll": ("{picows}", "echo", "--workers", "1", *ON_EPOLL, *LISTEN),
            "multi-worker": ("{picows}", "echo", *TWO_WORKERS, *LISTEN),
        },
    ),
    Peer(
        "picows-uring-libdeflate", "`picows echo --workers 1`, built with libdeflate beside zlib-rs", "libdeflate",
        deflate={
            "no-context": (
                "{picows_libdeflate}", "echo", "--workers", "1", "--deflate", "--deflate-no-context", *LISTEN,
            ),
        },
    ),
    Peer(
        "dedicated", "`picows echo --workers 1 --dedicated`: sleeps in its own ring", "ours",
        ("{picows}", "echo", "--workers", "1", "--dedicated", *LISTEN),
        ("{picows_uring_fan_out}", "--dedicated", *LISTEN),
        ("{picows}", "echo", "--workers", "1", "--dedicated", *LISTEN, *TLS),
        topics=("{picows}", "pubsub", "--workers", "1", "--dedicated", *LISTEN),
        more={
            "driver-epoll": ("{picows}", "echo", "--workers", "1", "--dedicated", *ON_EPOLL, *LISTEN),
            "multi-worker": ("{picows}", "echo", *TWO_WORKERS, "--dedicated", *LISTEN),
            "embedded": ("{picows}", "echo", "--workers", "1", "--dedicated", *LISTEN),
        },
    ),
    Peer(
        "hosted-by-tokio", "`picows echo --workers 1 --event-loop tokio`: hosted, in tokio's own loop", "ours",
        ("{picows}", "echo", "--workers", "1", "--event-loop", "tokio", *LISTEN),
    ),
    Peer(
        "embedded", "our worker in a loop of `poll`", "rust",
        more={
            "embedded": ("{picows_uring_embedded}", *LISTEN),
            "driver-epoll": ("{picows_uring_embedded}", *ON_EPOLL, *LISTEN),
        },
    ),
    Peer(
        "python", "our Python package, on uvloop", "package",
        more={"python": ("{package_python}", "{picows_uring_echo.py}", *LISTEN)},
    ),
    Peer(
        "epoll", "an epoll loop by hand over our protocol crate", "ours",
        ("{epoll_echo}", *LISTEN), ("{epoll_echo}", "--fan-out", *LISTEN),
        more={"driver-epoll": ("{epoll_echo}", *LISTEN), "embedded": ("{epoll_echo}", *LISTEN)},
    ),
    Peer(
        "tokio", "a tokio loop by hand over our protocol crate", "rust", ("{tokio_echo}", *LISTEN),
        more={"driver-epoll": ("{tokio_echo}", *LISTEN)},
    ),
    Peer(
        "fastwebsockets", "fastwebsockets, with hyper", "rust",
        ("{fastwebsockets_echo}", *LISTEN), ("{fastwebsockets_echo}", "--fan-out", *LISTEN),
        ("{fastwebsockets_echo}", *LISTEN, *TLS),
        more={"multi-worker": ("{fastwebsockets_echo}", *TWO_WORKERS, *LISTEN)},
    ),
    Peer(
        "tokio-websockets", "tokio-websockets", "rust",
        ("{tokio_websockets_echo}", *LISTEN), ("{tokio_websockets_echo}", "--fan-out", *LISTEN),
        more={"multi-worker": ("{tokio_websockets_echo}", *TWO_WORKERS, *LISTEN)},
    ),
    Peer(
        "tokio-tungstenite", "tokio-tungstenite", "rust",
        ("{tungstenite_echo}", *LISTEN), ("{tungstenite_echo}", "--fan-out", *LISTEN),
        ("{tungstenite_echo}", *LISTEN, *TLS),
        more={"multi-worker": ("{tungstenite_echo}", *TWO_WORKERS, *LISTEN)},
    ),
    Peer(
        "ntex", "ntex, on its own runtime on io_uring; frames of 64 KiB at the most", "rust", ("{ntex_echo}", *LISTEN),
        more={"multi-worker": ("{ntex_echo}", *TWO_WORKERS, *LISTEN)}, payload_bytes_max=65_536,
    ),
    Peer(
        "wtx", "wtx, on tokio", "rust", ("{wtx_echo}", *LISTEN),
        more={"multi-worker": ("{wtx_echo}", *TWO_WORKERS, *LISTEN)},
    ),
    Peer(
        "sockudo-ws", "sockudo-ws, on tokio", "rust", ("{sockudo_echo}", *LISTEN),
        more={"multi-worker": ("{sockudo_echo}", *TWO_WORKERS, *LISTEN)},
    ),
    Peer(
        "beast", "Boost.Beast, callbacks", "beast", ("{beast_echo}", *LISTEN),
        tls=("{beast_tls_echo}", *LISTEN, *TLS),
        deflate=deflating(
            "{beast_echo}", *LISTEN, context=["--deflate", "context"], no_context=["--deflate", "no-context"]
        ),
    ),
    Peer(
        "yawc", "yawc, with hyper", "rust", ("{yawc_echo}", *LISTEN),
        more={"multi-worker": ("{yawc_echo}", *TWO_WORKERS, *LISTEN)},
        deflate=deflating(
            "{yawc_echo}", *LISTEN, context=["--deflate", "context"], no_context=["--deflate", "no-context"]
        ),
        imposes_no_context=True,
    ),
    Peer(
        "uwebsockets", "uWebSockets, in C++, with zlib where it compresses", "uwebsockets", ("{uwebsockets_echo}", *LISTEN),
        deflate=deflating(
            "{uwebsockets_echo}", *LISTEN, context=["--deflate", "context"], no_context=["--deflate", "no-context"]
        ),
    ),
    # What it has libdeflate for: whole messages.
    Peer(
        "uwebsockets-libdeflate", "uWebSockets with libdeflate beside zlib", "uwebsockets",
        deflate={"no-context": ("{uwebsockets_libdeflate_echo}", *LISTEN, "--deflate", "no-context")},
    ),
    Peer(
        "picows", "Python's picows, on uvloop", "python",
        ("{python}", "{picows_echo.py}", *LISTEN),
        ("{python}", "{picows_echo.py}", "--fan-out", *LISTEN),
        more={"python": ("{python}", "{picows_echo.py}", *LISTEN)},
    ),
    Peer(
        "ws", "ws on Node", "node",
        ("{node}", "{ws_echo.js}", *LISTEN), ("{node}", "{ws_echo.js}", "--fan-out", *LISTEN),
        deflate=deflating(
            "{node}", "{ws_echo.js}", *LISTEN, context=["--deflate", "context"], no_context=["--deflate", "no-context"]
        ),
    ),
    Peer(READY_SENDS, "one `send(2)` of ready bytes for each subscriber, and no parser", "ours",
         topics=("{ready_sends}", *LISTEN)),
    Peer(
        "bun", "Bun, whose WebSockets and topics are those of uWebSockets", "bun",
        ("{bun}", "run", "{bun_echo.js}", *LISTEN), topics=("{bun}", "run", "{bun_topics.js}", *LISTEN),
    ),
    Peer(
        "websockets", "Python's websockets, on uvloop", "python",
        more={"python": ("{python}", "{websockets_echo.py}", *LISTEN)},
        deflate=deflating(
            "{python}", "{websockets_echo.py}", *LISTEN,
            context=["--deflate", "context"], no_context=["--deflate", "no-context"],
        ),
    ),
)


class Client(NamedTuple):
    name: str
    about: str
    kit: str
    argv: tuple
    # `picows rtt` wants a URL, and has flags of its own.
    is_ours: bool = False


CLIENTS = (
    Client("picows-uring", "`picows rtt`", "ours", ("{picows}", "rtt"), True),
    Client("dedicated", "`picows rtt --dedicated`", "ours", ("{picows}", "rtt", "--dedicated"), True),
    Client(
        "spinning", "`picows rtt --busy-poll always`", "ours",
        ("{picows}", "rtt", "--busy-poll", "always"), True,
    ),
    Client(
        "dedicated-spinning", "`picows rtt --dedicated --busy-poll always`", "ours",
        ("{picows}", "rtt", "--dedicated", "--busy-poll", "always"), True,
    ),
    Client("bare socket", "a blocking socket, by hand", "ours", ("{blocking_rtt}",)),
    Client("fastwebsockets", "fastwebsockets, with hyper", "rust", ("{fastwebsockets_rtt}",)),
    Client("tokio-tungstenite", "tokio-tungstenite", "rust", ("{tungstenite_rtt}",)),
    Client("beast", "Boost.Beast, blocking calls", "beast", ("{beast_rtt}",)),
    Client("picows", "Python's picows, on uvloop", "python", ("{python}", "{picows_rtt.py}")),
)

SERVER_NAMES = tuple(peer.name for peer in SERVERS)
CLIENT_NAMES = tuple(client.name for client in CLIENTS)
# Clients of other libraries: what the round trips of ours are compared with.
PEER_CLIENTS = ("fastwebsockets", "tokio-tungstenite", "beast", "picows")


def peer_servers(names=SERVER_NAMES):
    """Those that are neither ours nor the floor."""
    others = (*OURS, *OURS_TOO, FLOOR, READY_SENDS)
    return [name for name in names if name not in others]


def libraries(names=SERVER_NAMES):
    """Peers but for the loops by hand."""
    return [name for name in peer_servers(names) if name not in BY_HAND]


def names_of(section):
    if section == "rtt":
        return CLIENT_NAMES
    return tuple(peer.name for peer in SERVERS if peer.takes_part(section))


def server(name):
    return next(peer for peer in SERVERS if peer.name == name)


def client(name):
    return next(client for client in CLIENTS if client.name == name)


def can_run(run):
    """Whether its peer has this case at all."""
    return run.section == "rtt" or server(run.peer).has_case(run.section, run.case)


def kits(names):
    """What has to be built for these, in order; ours always, as the load is in it."""
    wanted = {known.kit for known in (*SERVERS, *CLIENTS) if known.name in names}
    if any(known.name in names and "{picows_uring_fan_out}" in known.fan_out for known in SERVERS):
        wanted.add("rust")
    return ["ours", *(kit for kit in ("libdeflate", "rust", "beast", "uwebsockets", "python", "package", "node", "bun") if kit in wanted)]


def fill(argv, programs):
    """Puts paths in the place of `{name}`."""
    missing = [word for word in argv if word[:1] == "{" and word[1:-1] not in programs]
    if missing:
        raise Failure(f"{missing[0][1:-1]} was not built")
    return [str(programs[word[1:-1]]) if word[:1] == "{" else word for word in argv]
