"""The page docs/BENCHMARKS.md and its plots, from a record and from notes that people write.

Only renders: the same record and the same notes give the same page.
"""

from . import chart, figures, peers
from .figures import CPU, DELIVERY, WIRE, Figures, ratio
from .plan import CELLS_OF, RESTARTS

INTRODUCTION = """# Benchmarks

What a message costs a server, next to other libraries and to what the kernel alone costs. Made by
`scripts/bench-peers`, which builds everything, runs it on one machine in one session, and writes
this page; the experiments, at the end, are written by hand in `benches/record/tried.md`.
"""
READING = """
How to read the figures: a shared machine only ever adds to them, so the lowest of the rounds counts
and the median stands beside it. Compare what stands in one table; another machine has other numbers. One table again:
`scripts/bench-peers --sections NAME`, with the names that `scripts/bench-peers --list` prints.
"""
# Cells that the page opens with, and what they stand for.
OPENING = (
    ("1x1x256", "A lone message of 256 bytes"),
    ("64x1x256", "64 connections, one message of 256 bytes in flight on each"),
    ("64x16x256", "The same with 16 messages in flight on each"),
    ("8x1x16384", "8 connections, messages of 16 KiB"),
    ("8x1x1048576", "8 connections, messages of 1 MiB"),
    ("1000x1x256", "1,000 connections"),
)


class Page:
    def __init__(self, record, notes, plots):
        self.figures = Figures(record)
        self.record = record
        self.notes = notes
        # The folder of the plots, as seen from the page.
        self.plots = plots
        self.images = {}

    def render(self):
        """The page, and its plots by file name."""
        parts = [INTRODUCTION, self.opening(), READING, self.setting(), self.participants()]
        sections = (self.echo, self.open_loop, self.round_trips, self.fan_out, self.topics, self.topics_cost, self.deflate, self.connections, self.restart,
                    self.syscalls, self.idle, self.driver_epoll, self.embedded, self.python, self.multi_worker, self.tls, self.tls_connections, self.tls_idle, self.goals,
                    self.failures)
        parts += [section() for section in sections]
        parts.append(self.notes)
        return "\n".join(part.strip() + "\n" for part in parts if part), self.images

    def plot(self, name, svg, alt):
        if not svg:
            return ""
        self.images[f"{name}.svg"] = svg
        return f"![{alt}]({self.plots}/{name}.svg)\n"

    def opening(self):
        """Ten lines at the most, for readers who stop there."""
        lines = []
        for case, what in OPENING:
            low, name = min(
                ((low, name) for name in peers.OURS if (low := self.figures.lowest("echo", case, name, CPU)) is not None),
                default=(None, None),
            )
            library, best = self.figures.best_library(case)
            if low is not None and best is not None:
                lines.append(f"{what}: {short(low)} µs of server CPU each ({name}); the best library, {library}: {short(best)} µs")
        case = next(iter(self.figures.cases("idle")), None)
        idle = case and self.figures.lowest("idle", case, peers.OURS[0], "bytes_per_connection")
        if idle is not None:
            lines.append(f"An idle connection: {short(idle)} bytes")
        rate = self.figures.median("connect", "64", peers.OURS[0], "connections_per_s")
        if rate is not None:
            lines.append(f"Connections: {short(rate)} accepted and upgraded in a second, with half of the machine for the clients")
        found = [is_met for *_, is_met in figures.goals(self.figures)]
        if found:
            lines.append(f"Goals: {sum(found)} of {len(found)} reached; the others are named below, with where the time goes")
        return "\n".join(f"- {line}." for line in lines)

    # What and where

    def setting(self):
        about, settings = self.record.about, self.record.settings
        calm = self.figures.disturbance()
        rounds = ", ".join(f"{name} {settings.rounds_of(name)}" for name in settings.sections)
        return f"""
## The machine and the method

| | |
|---|---|
| machine | {about['processor']}, {about['cores']} cores{' of a virtual machine' if about['virtual'] else ''}, {about['memory_gib']} GiB |
| system | {about['distribution']}, Linux {about['kernel']} |
| date | {about['date']}, commit {about['commit']} |
| versions | {', '.join(f'{name} {version}' for name, version in about['versions'].items())} |
| command | `{about['command']}` (seed {settings.seed}) |

Server on one core, load on another. Within each cell the servers take turns, in shuffled order, for
some rounds of {settings.duration_s:g} s after {settings.warmup_s:g} s of warming up; they keep running,
and each round opens its own connections. Rounds: {rounds}. One thread each, release builds,
TCP_NODELAY, no compression but in its section. Every echo is checked. Processor time is the scheduler's, of all threads
of the server. A run with more than {settings.steal_percent_max:g} % stolen from a core is done again:
of {calm['runs']} runs, {calm['disturbed']} stayed above that after {calm['reruns']} repetitions. In the
median, {calm['steal_percent_median']:.1f} % was stolen, and other processes used
{calm['other_percent_median']:.1f} % of the machine.
"""

    def participants(self):
        names = {name for section in ("echo", "deflate", *CELLS_OF) for name in self.figures.peers(section)}
        rows = [(f"`{peer.name}`", peer.about) for peer in peers.SERVERS if peer.name in names]
        missing = [(f"`{name}`", f"skipped: {one_line(reason)}") for name, reason in self.record.skipped.items()]
        return "## Who takes part\n\n" + table(("server", "what it is"), [*rows, *missing], left=2)

    # Sections

    def echo(self):
        cases, names = self.figures.cases("echo"), self.figures.peers("echo")
        if not cases:
            return ""
        text = [
            "## Cost of a message\n\n"
            "A cell is connections × messages in flight on each × bytes of payload.",
            "### Processor time of the server\n\nMicroseconds per message, the lowest of the rounds; "
            "lowest of a row in bold, the floor aside.",
            self.grid(cases, names, lambda case, name: self.figures.lowest("echo", case, name, CPU), is_low_best=True),
            "### Ratios of the lowest\n\nThe best peer is the cheapest of all that are neither ours nor the floor.",
            self.ratios(cases),
            self.echo_plot(cases, names),
            "### The median of the rounds\n\nMicroseconds per message.",
            self.grid(cases, names, lambda case, name: self.figures.median("echo", case, name, CPU)),
            "### Rate\n\nThousands of messages per second, the median of the rounds. Where the load has "
            "no time left, fast servers look alike.",
            self.grid(cases, names, lambda case, name: thousands(self.figures.median("echo", case, name, "messages_per_s"))),
        ]
        return "\n\n".join(part.strip() for part in text if part)

    def driver_epoll(self):
        return self.more("driver-epoll", "Driver epoll", "Workers that make no call of io_uring, beside loops by hand.")

    def embedded(self):
        return self.more("embedded", "Embedded worker", "A worker in a loop of `poll`, beside one that is dedicated.")

    def python(self):
        return self.more("python", "Servers in Python", "Each in one process, on uvloop.")

    def multi_worker(self):
        return self.more(
            "multi-worker", "Two workers",
            "Two threads of a server on both cores, of which the load takes its part: processor time of all threads. "
            "Libraries on tokio have its runtime with two threads.",
        )

    def more(self, section, title, about):
        """A section that is measured as `echo` is: the lowest and the median."""
        cases, names = self.figures.cases(section), self.figures.peers(section)
        if not cases:
            return ""
        rows = [
            (label(case), {name: self.figures.lowest(section, case, name, CPU) for name in names}) for case in cases
        ]
        title_of_plot = f"{title}: processor time per message"
        text = [
            f"## {title}\n\n{about} Microseconds of server CPU per message, the lowest of the rounds.",
            self.grid(cases, names, lambda case, name: self.figures.lowest(section, case, name, CPU), is_low_best=True),
            self.plot(section, chart.dots(title_of_plot, "µs, lowest of the rounds", rows, names), title_of_plot),
            f"### The median of the rounds: {title}",
            self.grid(cases, names, lambda case, name: self.figures.median(section, case, name, CPU)),
        ]
        return "\n\n".join(part.strip() for part in text if part)

    def grid(self, cases, names, value, is_low_best=False, section=None):
        rows = []
        for case in cases:
            values = [value(case, name) for name in names]
            real = [v for v, name in zip(values, names) if v is not None and name != peers.FLOOR]
            best = min(real, default=None) if is_low_best else None
            cells = [f"**{short(v)}**" if best is not None and v == best and name != peers.FLOOR else short(v)
                     for v, name in zip(values, names)]
            rows.append((tls_label(case) if section == "tls" else label(case), *cells))
        return table(("cell", *names), rows)

    def ratios(self, cases):
        rows = []
        for case in cases:
            best = self.figures.best_peer("echo", case, CPU)[0]
            rows.append((
                label(case),
                *(short_ratio(self.figures.to_floor(case, name)) for name in peers.OURS),
                *(short_ratio(self.figures.to_best_peer(case, name)) for name in peers.OURS),
                best or "–",
            ))
        heads = ("cell", "hosted / floor", "dedicated / floor", "hosted / best peer", "dedicated / best peer", "best peer")
        return table(heads, rows)

    def echo_plot(self, cases, names):
        others = [name for name in names if name != peers.FLOOR]
        rows = []
        for case in cases:
            points = {name: self.figures.to_floor(case, name) for name in others}
            rows.append((label(case), points))
        title = "Processor time per message, as a multiple of the floor's"
        return self.plot("cpu", chart.dots(title, "× floor, lowest of the rounds", rows, others, mark=1), title)

    def open_loop(self):
        names = self.figures.peers("open")
        if not names:
            return ""
        asked = {case: self.asked(case, names) for case in self.figures.cases("open")}
        text = [
            "## Latency in open loop\n\nMessages are due at even distances, whatever the server does, and "
            "latency counts from when a message was due. 64 connections, 256 bytes, at 50 % and 80 % of the "
            "highest rate that any of these servers reached in closed loop with the same load (`picows load`). "
            "Microseconds, the lowest of the rounds; *behind*: it could not keep up. The load's own part is how "
            "late a message was sent, which is in the latency as well.",
        ]
        for case, rate in asked.items():
            rows = [
                (name, *self.latencies("open", case, name),
                 short(self.figures.lowest("open", case, name, "send_delay_p99.9_us")), self.behind(case, name))
                for name in names
            ]
            text.append(f"### At {case} %: {rate:,} messages per second")
            text.append(table(("server", "p50", "p99", "p99.9", "median p99.9", "load's own p99.9", ""), rows))
        last = next(reversed(asked))
        title = f"Latency in open loop at {last} % of the highest rate"
        rows = [(name, self.spread("open", last, name)) for name in names]
        text.append(self.plot("open-loop", chart.dots(title, "µs, lowest of the rounds", rows, ("p50", "p99", "p99.9")), title))
        return "\n\n".join(part.strip() for part in text if part)

    def asked(self, case, names):
        return int(max(self.figures.highest("open", case, name, "asked_per_s") or 0 for name in names))

    def spread(self, section, case, name):
        return {q: self.figures.lowest(section, case, name, f"latency_{q}_us") for q in ("p50", "p99", "p99.9")}

    def latencies(self, section, case, name):
        median = self.figures.median(section, case, name, "latency_p99.9_us")
        return *(short(value) for value in self.spread(section, case, name).values()), short(median)

    def behind(self, case, name):
        got = self.figures.highest("open", case, name, "messages_per_s") or 0
        asked = self.figures.highest("open", case, name, "asked_per_s") or 0
        return "" if got >= 0.98 * asked else "*behind*"

    def round_trips(self):
        names = self.figures.peers("rtt")
        if not names:
            return ""
        text = ["## Round trips of clients\n\nOne connection, one message in flight, to `picows echo`: once asleep "
                "between messages, once spinning. Microseconds, p50, the lowest of the rounds (median of p99)."]
        abouts = {client.name: client.about for client in peers.CLIENTS}
        cases = self.figures.cases("rtt")
        rows = []
        for name in names:
            cells = []
            for case in cases:
                low = self.figures.lowest("rtt", case, name, "latency_p50_us")
                high = self.figures.median("rtt", case, name, "latency_p99_us")
                cells.append("–" if low is None else f"{short(low)} ({short(high)})")
            rows.append((name, abouts[name], *cells))
        heads = [f"{case.split('-')[0]} B, server {case.split('-')[1]}" for case in cases]
        text.append(table(("client", "what it is", *heads), rows, left=2))
        plotted = [(name, {case: self.figures.lowest("rtt", case, name, "latency_p50_us") for case in cases}) for name in names]
        title = "Round trips of clients, p50"
        plotted = [(name, {heads[at]: points[case] for at, case in enumerate(cases)}) for name, points in plotted]
        text.append(self.plot("round-trips", chart.dots(title, "µs, lowest of the rounds", plotted, heads), title))
        return "\n\n".join(part.strip() for part in text if part)

    def fan_out(self):
        text = "## Fan-out\n\nOne connection sends, each of {0} receives; the next message goes out when all have the last."
        heads = (("µs of server CPU per delivery", "lowest", "server_cpu_us_per_delivery"),
                 ("deliveries/s", "median", "deliveries_per_s"), ("p50 of a delivery, µs", "lowest", "latency_p50_us"),
                 ("until the last has it, p50, µs", "lowest", "span_p50_us"))
        case = next(iter(self.figures.cases("fan-out")), "0x0")
        return self.listing("fan-out", text.format(case.split("x")[0]), heads, "Processor time per delivery")

    def topics(self):
        cases, names = self.figures.cases("topics"), self.figures.peers("topics")
        if not cases or not names:
            return ""
        cost = "server_cpu_us_per_delivery"
        rows = []
        for name in names:
            cells = [short(self.figures.lowest("topics", case, name, cost)) for case in cases]
            rate = self.figures.highest("topics", cases[-1], name, "deliveries_per_s")
            late = [short(self.figures.lowest("topics", case, name, "all_p50_us")) for case in cases]
            lost = sum(self.figures.highest("topics", case, name, "gaps") or 0 for case in cases)
            rows.append((name, *cells, "–" if rate is None else f"{rate:,.0f}", *late, f"{lost:.0f}" if lost else ""))
        flights = [case.split("x")[1] for case in cases]
        heads = (
            *(f"µs of server CPU, {count} in flight" for count in flights), "highest deliveries/s",
            *(f"until all have it, p50, µs, {count} in flight" for count in flights), "gaps",
        )
        text = (f"## Topics\n\nOne client publishes to a topic, {cases[0].split('x')[0]} others subscribe; publications of "
                "256 bytes, so many in flight. Servers without topics send each message to a list of connections. "
                "Processor time for each delivery, the lowest of the rounds.\n\n")
        title = "Topics: processor time per delivery"
        points = [
            (f"{count} in flight", {name: self.figures.lowest("topics", case, name, cost) for name in names})
            for count, case in zip(flights, cases)
        ]
        plot = self.plot("topics", chart.dots(title, "µs, lowest of the rounds", points, names), title)
        return text + table(("server", *heads), rows) + "\n\n" + plot

    def topics_cost(self):
        cases = self.figures.cases("topics-cost")
        if not cases:
            return ""
        name, rows = peers.OURS[0], []
        for case, figure, what in (
            ("publish", "publish_alone_us", "µs of the publisher's CPU, workers asleep"),
            ("publish", "publish_in_a_row_us", "µs of the publisher's CPU, publications in a row"),
            ("latest", "bytes_per_held", "bytes for each subscriber that holds the latest"),
            ("oldest", "bytes_per_held", "bytes for each publication held, 64 for each subscriber"),
        ):
            found = next((it for it in cases if it.startswith(case)), None)
            value = found and self.figures.lowest("topics-cost", found, name, figure)
            rows.append((what, found.split("-")[1] if found else "–", short(value) if value is not None else "–"))
        return ("## Costs of topics\n\nOne topic, two workers; for what is held, subscribers that have stopped reading, "
                "1,000 publications of 1 KiB. The lowest of the rounds.\n\n"
                + table(("what", "subscribers", "figure"), rows, left=1))

    def tls(self):
        cases, names = self.figures.cases("tls"), self.figures.peers("tls")
        if not cases:
            return ""
        rows = []
        for case in cases:
            best, low = self.figures.best_peer("tls", case, CPU)
            ours = (ratio(self.figures.lowest("tls", case, name, CPU), low) for name in peers.OURS)
            rows.append((tls_label(case), *map(short_ratio, ours), best or "–"))
        title = "Over TLS: processor time per message"
        points = [(tls_label(case), {name: self.figures.lowest("tls", case, name, CPU) for name in names}) for case in cases]
        text = [
            "## Over TLS\n\nTLS 1.3 with AES-128-GCM, an ECDSA P-256 certificate. The load puts all frames that go out "
            "together into one record, or each into its own (*each*); what the servers do is theirs. Servers on "
            "OpenSSL have the system's, which may lack what newer ones do with wide vectors. Microseconds of server "
            "CPU per message, the lowest of the rounds.",
            self.grid(cases, names, lambda case, name: self.figures.lowest("tls", case, name, CPU), True, "tls"),
            self.plot("tls", chart.dots(title, "µs, lowest of the rounds", points, names), title),
            "### Ratios of the lowest over TLS",
            table(("cell", "hosted / best peer", "dedicated / best peer", "best peer"), rows),
            "### The median of the rounds over TLS",
            self.grid(cases, names, lambda case, name: self.figures.median("tls", case, name, CPU), False, "tls"),
        ]
        return "\n\n".join(part.strip() for part in text if part)

    def tls_connections(self):
        text = ("## Connections over TLS\n\nAccepted, encrypted by a whole handshake and upgraded, and then reset by the "
                "client; one ticket each.")
        heads = (("µs of server CPU per connection", "lowest", "server_cpu_us_per_connection"),
                 ("connections/s", "median", "connections_per_s"), ("p99 of a handshake, µs", "lowest", "latency_p99_us"))
        return self.listing("tls-connect", text, heads, "Processor time per connection over TLS", "handshakes at a time")

    def tls_idle(self):
        case = next(iter(self.figures.cases("tls-idle")), "0")
        text = (f"## Memory of an idle connection over TLS\n\nAs without TLS: growth of the process over {int(case):,} "
                "connections that have exchanged one message each.")
        heads = (("bytes per connection", "lowest", "bytes_per_connection"), ("process before, bytes", "lowest", "resident_before_bytes"))
        return self.listing("tls-idle", text, heads, "Memory of an idle connection over TLS")

    def deflate(self):
        names = self.figures.peers("deflate")
        cases = [case for case in self.figures.cases("deflate") if not case.startswith("fan-out")]
        if not names or not cases:
            return ""
        rows = []
        for name in names:
            cells = []
            for case in cases:
                cells.append(short(self.figures.lowest("deflate", case, name, CPU)))
                cells.append(short(self.figures.lowest("deflate", case, name, WIRE)))
            rows.append((name, *cells))
        heads = [f"{case}, {what}" for case in cases for what in ("µs of server CPU", "bytes on the wire")]
        return ("## Compression\n\nEcho of 1 KiB of JSON over permessage-deflate, 4 connections, with context takeover and "
                "without; each server with its own level and windows, whose effect is in the bytes. Per message, the "
                "lowest of the rounds.\n\n"
                + table(("server", *heads), rows) + "\n\n" + self.deflate_plot(names, cases) + "\n" + self.deflate_fan_out())

    def deflate_plot(self, names, cases):
        title = "Compression: processor time per message"
        points = [(name, {case: self.figures.lowest("deflate", case, name, CPU) for case in cases}) for name in names]
        return self.plot("deflate", chart.dots(title, "µs, lowest of the rounds", points, cases), title)

    def deflate_fan_out(self):
        lows = [
            self.figures.lowest("deflate", case, "picows-uring", DELIVERY) for case in ("fan-out-plain", "fan-out")
        ]
        if None in lows:
            return ""
        return (f"A prepared message of 1 KiB to {self.record.settings.subscribers:,} connections takes {lows[0]:.2f} µs of server "
                f"CPU a delivery as it is, and {lows[1]:.2f} µs compressed once for all.")

    def connections(self):
        text = "## Connections\n\nAccepted and upgraded, and then reset by the client."
        heads = (("µs of server CPU per connection", "lowest", "server_cpu_us_per_connection"),
                 ("connections/s", "median", "connections_per_s"), ("p99 of a handshake, µs", "lowest", "latency_p99_us"))
        return self.listing("connect", text, heads, "Processor time per connection", "handshakes at a time")

    def restart(self):
        names, cases = self.figures.peers("restart"), self.figures.cases("restart")
        if not names:
            return ""
        rows = []
        for name in names:
            for case in cases:
                failed, closed = (
                    self.figures.highest("restart", case, name, figure) for figure in ("failed_connections", "closed_before_echo")
                )
                took = self.figures.lowest("restart", case, name, "restart_ms")
                late = (self.figures.median("restart", case, name, f"latency_{q}_us") for q in ("p50", "p99", "max"))
                rows.append((name, RESTARTS[case], *map(short, late), most(failed), most(closed), short(took)))
        heads = (
            "server", "restart", "p50, µs", "p99, µs", "longest, µs", "connects that failed", "closed before the echo",
            "until the next serves, ms",
        )
        return ("## Restart under load\n\nConnects at an even rate of 1,000 a second, each with one echo, while one process "
                "follows another; latency counts from when a connect was due until its echo has come: medians of the rounds. "
                "Failed and closed: the most in a round; a process that ends closes what is open with CLOSE 1001. `scripts/takeover` does twenty in a row, plain and over TLS.\n\n"
                + table(heads, rows, left=2) + "\n\n" + self.restart_plot(names, cases))

    def restart_plot(self, names, cases):
        title = "Restart under load: the longest latency"
        rows = [
            (RESTARTS[case], {name: self.figures.median("restart", case, name, "latency_max_us") for name in names})
            for case in cases
        ]
        return self.plot("restart", chart.dots(title, "µs, median of the rounds", rows, names), title)

    def idle(self):
        case = next(iter(self.figures.cases("idle")), "0")
        text = (f"## Memory of an idle connection\n\nGrowth of the process (resident) over {int(case):,} connections "
                "that have exchanged one message each, after others were opened and closed before; bytes "
                "per connection. The kernel's sockets come on top, and are the same for all.")
        heads = (("bytes per connection", "lowest", "bytes_per_connection"), ("process before, bytes", "lowest", "resident_before_bytes"))
        return self.listing("idle", text, heads, "Memory of an idle connection")

    def listing(self, section, text, heads, plot, unit_of_cases=None):
        """A table with a server to a row, for each case of a section; plots the first column of the first."""
        names = self.figures.peers(section)
        cases = self.figures.cases(section)
        if not names or not cases:
            return ""

        def value(case, name, how, figure):
            return getattr(self.figures, how)(section, case, name, figure)

        parts = [text]
        for case in cases:
            rows = [(name, *(short(value(case, name, how, figure)) for _, how, figure in heads)) for name in names]
            if unit_of_cases:
                kind = " over TLS" if section.startswith("tls") else ""
                parts.append(f"### {case} {unit_of_cases}{kind}")
            parts.append(table(("server", *(head for head, _, _ in heads)), rows))
        unit, how, figure = heads[0]
        points = [(name, {unit: value(cases[0], name, how, figure)}) for name in names]
        parts.append(self.plot(section, chart.dots(plot, unit, points, [unit]), plot))
        return "\n\n".join(part.strip() for part in parts if part)

    def syscalls(self):
        names, cases = self.figures.peers("syscalls"), self.figures.cases("syscalls")
        if not names:
            return ""
        rows = [(name, *(short(self.figures.lowest("syscalls", case, name, "syscalls_per_message")) for case in cases)) for name in names]
        return ("## System calls per message\n\nOf the server; the difference of a long and a short run, so without connecting.\n\n"
                + table(("server", *map(label, cases)), rows) + "\n\n" + self.syscalls_plot(names, cases))

    def syscalls_plot(self, names, cases):
        title = "System calls per message"
        points = [
            (name, {label(case): self.figures.lowest("syscalls", case, name, "syscalls_per_message") for case in cases})
            for name in names
        ]
        return self.plot("syscalls", chart.dots(title, "of the server", points, list(map(label, cases))), title)

    def goals(self):
        found = list(figures.goals(self.figures))
        if not found:
            return ""
        rows = [(what, f"≤ {most:g}", f"{value:.4g}", "reached" if is_met else "**missed**") for what, most, value, is_met in found]
        met = sum(is_met for *_, is_met in found)
        return (f"## Goals\n\n{met} of {len(found)} reached. One more is no matter of measuring: a message allocates nothing, "
                "which\n`cargo test -p picows-uring --test allocations` asserts.\n\n"
                + table(("what", "goal", "found", ""), rows))

    def failures(self):
        if not self.record.failures:
            return ""
        seen = {}
        for run, reason in self.record.failures.items():
            seen.setdefault(run[:3], reason)
        lines = [f"- {section} {label(case)}, {peer}: {one_line(reason)}" for (section, case, peer), reason in seen.items()]
        return "## What failed\n\n" + "\n".join(lines)


def label(case):
    return case.replace("x", "×")


def tls_label(case):
    """A cell, and whether each frame has a record of its own."""
    cell, packing = case.split("-")
    return label(cell) + (", each" if packing == "each" else "")


def thousands(value):
    return None if value is None else value / 1000


def short(value):
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def most(value):
    return "–" if value is None else f"{value:,.0f}"


def short_ratio(value):
    return "–" if value is None else f"{value:.2f}"


def one_line(text):
    text = " ".join(text.replace("|", "/").split())
    return text if len(text) <= 160 else text[:160] + "…"


def table(heads, rows, left=1):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * left + "---:|" * (len(heads) - left)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
