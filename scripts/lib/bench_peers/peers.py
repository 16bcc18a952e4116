"""Peers that take part: how each server and client is started, and what it needs to be built.

The order here is the order of the tables.
"""

from typing import NamedTuple

from server import Failure

LISTEN = ("--listen", "127.0.0.1:0")
TLS = ("--tls-cert", "{certificate}", "--tls-key", "{key}")
OURS = ("picows-uring", "dedicated")


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
    # It answers that no context is kept to a client that has not offered that, and reads one offer only.
    imposes_no_context: bool = False
    # Where it has topics; elsewhere `fan_out` serves for them.
    topics: tuple = ()
    topics_cost: tuple = ()

    def has_case(self, section, case):
        """Whether it can do a case of a section that it takes part in."""
        return section != "deflate" or case in self.deflate

    def takes_part(self, section):
        if section == "deflate":
            return bool(self.deflate)
        if section == "topics":
            return bool(self.topics or self.fan_out)
        if section == "topics-cost":
            return bool(self.topics_cost)
        if not self.echo:
            return False
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
    ),
    Peer(
        "dedicated", "`picows echo --workers 1 --dedicated`: sleeps in its own ring", "ours",
        ("{picows}", "echo", "--workers", "1", "--dedicated", *LISTEN),
        ("{picows_uring_fan_out}", "--dedicated", *LISTEN),
        ("{picows}", "echo", "--workers", "1", "--dedicated", *LISTEN, *TLS),
        topics=("{picows}", "pubsub", "--workers", "1", "--dedicated", *LISTEN),
    ),
    Peer(
        "epoll", "an epoll loop by hand over our protocol crate", "ours",
        ("{epoll_echo}", *LISTEN), ("{epoll_echo}", "--fan-out", *LISTEN),
    ),
    Peer("tokio", "a tokio loop by hand over our protocol crate", "rust", ("{tokio_echo}", *LISTEN)),
    Peer(
        "fastwebsockets", "fastwebsockets, with hyper", "rust",
        ("{fastwebsockets_echo}", *LISTEN), ("{fastwebsockets_echo}", "--fan-out", *LISTEN),
        ("{fastwebsockets_echo}", *LISTEN, *TLS),
    ),
    Peer(
        "tokio-websockets", "tokio-websockets", "rust",
        ("{tokio_websockets_echo}", *LISTEN), ("{tokio_websockets_echo}", "--fan-out", *LISTEN),
    ),
    Peer(
        "tokio-tungstenite", "tokio-tungstenite", "rust",
        ("{tungstenite_echo}", *LISTEN), ("{tungstenite_echo}", "--fan-out", *LISTEN),
        ("{tungstenite_echo}", *LISTEN, *TLS),
    ),
    Peer(
        "beast", "Boost.Beast, callbacks", "beast", ("{beast_echo}", *LISTEN),
        tls=("{beast_tls_echo}", *LISTEN, *TLS),
        deflate=deflating(
            "{beast_echo}", *LISTEN, context=["--deflate", "context"], no_context=["--deflate", "no-context"]
        ),
    ),
    Peer(
        "yawc", "yawc, with hyper", "rust",
        deflate=deflating(
            "{yawc_echo}", *LISTEN, context=["--deflate", "context"], no_context=["--deflate", "no-context"]
        ),
        imposes_no_context=True,
    ),
    Peer(
        "uwebsockets", "uWebSockets, in C++, with zlib", "uwebsockets",
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
    Peer("bun", "Bun's topics, which are those of uWebSockets", "bun", topics=("{bun}", "run", "{bun_topics.js}", *LISTEN)),
    Peer(
        "websockets", "Python's websockets, on uvloop", "python",
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
    return [name for name in names if name not in OURS and name not in (FLOOR, READY_SENDS)]


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
    return ["ours", *(kit for kit in ("rust", "beast", "uwebsockets", "python", "node", "bun") if kit in wanted)]


def fill(argv, programs):
    """Puts paths in the place of `{name}`."""
    missing = [word for word in argv if word[:1] == "{" and word[1:-1] not in programs]
    if missing:
        raise Failure(f"{missing[0][1:-1]} was not built")
    return [str(programs[word[1:-1]]) if word[:1] == "{" else word for word in argv]
