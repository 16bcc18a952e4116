"""The page about a record."""

import unittest
import xml.etree.ElementTree as ElementTree

from bench_peers_case import RecordCase, cpu
from bench_peers import chart, figures, page
from bench_peers.plan import Run

CASE = "8x1x100000"


class Figures(RecordCase):
    def matrix(self):
        record = self.record(rounds=3, sections=["echo"], cells=[CASE])
        found = {
            "floor": (30.0, 33.0, 31.0), "picows-uring": (36.0, 33.0, 40.0), "dedicated": (31.5, 32.0, 31.5),
            "epoll": (42.0, 41.0, 44.0), "beast": (60.0, 61.0, 62.0),
        }
        for name, values in found.items():
            self.add(record, "echo", CASE, name, *cpu(*values))
        return record

    def test_the_lowest_counts_and_the_median_stands_beside_it(self):
        found = figures.Figures(self.matrix())
        self.assertEqual(found.lowest("echo", CASE, "picows-uring", figures.CPU), 33.0)
        self.assertEqual(found.median("echo", CASE, "picows-uring", figures.CPU), 36.0)
        self.assertAlmostEqual(found.to_floor(CASE, "picows-uring"), 1.1)
        self.assertIsNone(found.lowest("echo", CASE, "ws", figures.CPU))

    def test_the_best_peer_is_neither_ours_nor_the_floor(self):
        found = figures.Figures(self.matrix())
        self.assertEqual(found.best_peer("echo", CASE, figures.CPU), ("epoll", 41.0))
        self.assertAlmostEqual(found.to_best_peer(CASE, "dedicated"), 31.5 / 41)
        self.assertEqual(found.best_peer("open", "80", "latency_p50_us"), (None, None))

    def test_goals_are_told_where_there_are_figures(self):
        goals = {what: is_met for what, _, _, is_met in figures.goals(figures.Figures(self.matrix()))}
        self.assertEqual(goals, {
            f"{CASE}: picows-uring to the floor": True,
            f"{CASE}: picows-uring to the best library": True,
            f"{CASE}: picows-uring to epoll by hand": True,
            f"{CASE}: dedicated to the floor": True,
            f"{CASE}: dedicated to the best library": True,
            f"{CASE}: dedicated to epoll by hand": True,
        })

    def test_a_loop_by_hand_and_another_host_of_ours_are_no_libraries(self):
        record = self.matrix()
        self.add(record, "echo", CASE, "hosted-by-tokio", *cpu(20.0))
        found = figures.Figures(record)
        self.assertEqual(found.best_library(CASE), ("beast", 60.0))
        self.assertEqual(found.best_peer("echo", CASE, figures.CPU), ("epoll", 41.0))

    def test_a_large_message_has_to_cost_less_than_with_any_library(self):
        record = self.record(rounds=1, sections=["echo"], cells=[CASE, "64x1x256"])
        for case in (CASE, "64x1x256"):
            for name, value in {"floor": 10.0, "beast": 10.0, "dedicated": 10.2}.items():
                self.add(record, "echo", case, name, *cpu(value))
        goals = {what: is_met for what, _, _, is_met in figures.goals(figures.Figures(record))}
        self.assertFalse(goals[f"{CASE}: dedicated to the best library"])
        self.assertTrue(goals["64x1x256: dedicated to the best library"])

    def test_hosts_are_compared_with_loops_by_hand(self):
        record = self.record(rounds=1, sections=["driver-epoll", "embedded"])
        for name, value in {"picows-uring": 10.6, "dedicated": 10.4, "embedded": 9.0, "epoll": 10.0, "tokio": 10.0}.items():
            self.add(record, "driver-epoll", "64x1x256", name, *cpu(value))
        for name, value in {"embedded": 22.1, "dedicated": 20.0}.items():
            self.add(record, "embedded", "1x1x256", name, *cpu(value))
        goals = {what: is_met for what, _, _, is_met in figures.goals(figures.Figures(record))}
        self.assertEqual(goals, {
            "driver epoll, 64x1x256: dedicated to epoll by hand": True,
            "driver epoll, 64x1x256: picows-uring to tokio by hand": False,
            "1x1x256: embedded to dedicated": False,
        })
        text, images = page.Page(record, "", "plots").render()
        for part in ("## Driver epoll", "| 64×1×256 | 10.6 | 10.4 | **9.00** | 10.0 | 10.0 |", "## Embedded worker"):
            self.assertIn(part, text)
        self.assertEqual(sorted(images), ["driver-epoll.svg", "embedded.svg"])

    def test_a_storm_of_connections_has_a_table_of_its_own(self):
        record = self.record(rounds=1, sections=["connect"])
        for case, cost in (("64", 30.0), ("512", 33.0)):
            self.add(record, "connect", case, "dedicated", {
                "server_cpu_us_per_connection": cost, "connections_per_s": 1e4, "latency_p99_us": 9.0,
            })
        text, images = page.Page(record, "", "plots").render()
        for part in ("### 64 handshakes at a time", "### 512 handshakes at a time", "| dedicated | 33.0 | 10,000 | 9.00 |"):
            self.assertIn(part, text)
        self.assertEqual(list(images), ["connect.svg"])

    def test_a_restart_names_what_failed_in_its_worst_round(self):
        record = self.record(rounds=2, sections=["restart"])
        times = {"latency_p50_us": 400.0, "latency_p99_us": 5000.0, "latency_max_us": 8000.0}
        for case, failed in (("still", (0, 0)), ("takeover", (0, 0)), ("stop-start", (2, 7))):
            took = {} if case == "still" else {"restart_ms": 30.0}
            rounds = [times | took | {"failed_connections": count, "closed_before_echo": 0} for count in failed]
            self.add(record, "restart", case, "dedicated", *rounds)
        text, images = page.Page(record, "", "plots").render()
        for part in ("| dedicated | none | 400 | 5,000 | 8,000 | 0 | 0 | – |",
                     "| dedicated | the old process is stopped, then the next is started | 400 | 5,000 | 8,000 | 7 | 0 | 30.0 |"):
            self.assertIn(part, text)
        self.assertEqual(list(images), ["restart.svg"])

    def test_sections_with_tables_of_their_own_have_plots(self):
        record = self.record(rounds=1, sections=["topics", "deflate", "syscalls", "tls"])
        late = {"server_cpu_us_per_delivery": 1.0, "deliveries_per_s": 1e6, "all_p50_us": 9.0, "gaps": 0}
        for case in record.settings.cases_of("topics"):
            self.add(record, "topics", case, "dedicated", late)
        for case in ("context", "no-context"):
            self.add(record, "deflate", case, "picows-uring", *cpu(20.0))
        self.add(record, "syscalls", "1x1x256", "picows-uring", {"syscalls_per_message": 4.0, "counted_by": "perf"})
        self.add(record, "tls", "64x1x256-full", "picows-uring", *cpu(5.0))
        images = page.Page(record, "", "plots").render()[1]
        self.assertEqual(sorted(images), ["deflate.svg", "syscalls.svg", "tls.svg", "topics.svg"])

    def over_tls(self):
        record = self.record(rounds=2, sections=["tls", "tls-connect", "tls-idle"], idle_connections=1000)
        found = {
            "64x1x256-full": {"picows-uring": (4.9, 5.0), "dedicated": (4.0, 4.4), "fastwebsockets": (6.0, 6.1), "beast": (8.0, 8.2)},
            "64x16x256-each": {"picows-uring": (0.5, 0.6), "fastwebsockets": (6.0, 6.1)},
            "64x16x256-full": {"picows-uring": (0.4, 0.5), "fastwebsockets": (6.0, 6.1), "tokio-tungstenite": (3.0, 3.1)},
        }
        for case, values in found.items():
            for name, rounds in values.items():
                self.add(record, "tls", case, name, *cpu(*rounds))
        for name, rate in {"picows-uring": 9_000.0, "dedicated": 9_900.0, "beast": 10_000.0}.items():
            self.add(record, "tls-connect", "64", name, {"connections_per_s": rate, "server_cpu_us_per_connection": 80.0, "latency_p99_us": 9.0})
        self.add(record, "tls-idle", "1000", "picows-uring", {"bytes_per_connection": 1800.0, "resident_before_bytes": 1e7})
        return record

    def test_goals_over_tls_compare_with_the_best_peer(self):
        goals = {what: is_met for what, _, _, is_met in figures.goals(figures.Figures(self.over_tls()))}
        self.assertEqual(goals, {
            "TLS, 64x1x256: picows-uring to the best peer": False,
            "TLS, 64x1x256: dedicated to the best peer": True,
            "TLS, 64x16x256: picows-uring to fastwebsockets": True,
            "TLS, 64x16x256: picows-uring to tokio-tungstenite": False,
            "TLS handshakes: the best peer's rate to that of picows-uring": False,
            "TLS handshakes: the best peer's rate to that of dedicated": True,
            "TLS: bytes of an idle connection, picows-uring": True,
        })

    def test_the_page_has_the_cells_over_tls(self):
        text, images = page.Page(self.over_tls(), "", "plots").render()
        for part in ("## Over TLS", "| 64×1×256 | 4.90 | **4.00** | 6.00 | – | 8.00 |", "| 64×16×256, each |", "0.82 | 0.67 | fastwebsockets",
                     "## Connections over TLS", "## Memory of an idle connection over TLS"):
            self.assertIn(part, text)
        self.assertIn("tls-idle.svg", images)

    def test_compression_is_compared_with_peers_of_as_few_bytes(self):
        record = self.record(rounds=2, sections=["deflate"])
        found = {"picows-uring": (15.0, 154.0), "ws": (60.0, 139.0), "beast": (30.0, 160.0), "websockets": (19.0, 150.0)}
        for name, (time, size) in found.items():
            rounds = [figures_of | {"wire_bytes_per_message": size} for figures_of in cpu(time, time + 1)]
            self.add(record, "deflate", "context", name, *rounds)
        goals = {what: (value, is_met) for what, _, value, is_met in figures.goals(figures.Figures(record))}
        what = "compression, context: picows-uring to the best peer of 5 % fewer bytes at the most"
        self.assertEqual(goals, {what: (15 / 19, False)})
        text, _ = page.Page(record, "", "plots").render()
        self.assertIn("| ws | 60.0 | 139 |", text)

    def test_a_compressed_delivery_is_compared_with_a_plain_one(self):
        record = self.record(rounds=1, sections=["deflate"])
        self.add(record, "deflate", "context", "picows-uring", cpu(15.0)[0] | {"wire_bytes_per_message": 140.0})
        for case, time in {"fan-out-plain": 2.0, "fan-out": 2.3}.items():
            self.add(record, "deflate", case, "picows-uring", {"server_cpu_us_per_delivery": time})
        goals = {what: (value, is_met) for what, _, value, is_met in figures.goals(figures.Figures(record))}
        what = "fan-out of a prepared message: compressed to plain, a delivery"
        self.assertEqual(goals, {what: (2.3 / 2.0, False)})
        text, _ = page.Page(record, "", "plots").render()
        self.assertIn("2.00 µs of server CPU a delivery as it is, and 2.30 µs compressed once for all", text)

    def test_a_burst_may_cost_a_quarter_above_the_floor(self):
        record = self.record(rounds=1, sections=["echo"], cells=["64x16x256"])
        for name, value in {"floor": 1.0, "dedicated": 1.25, "picows-uring": 1.26}.items():
            self.add(record, "echo", "64x16x256", name, *cpu(value))
        goals = {what: is_met for what, _, _, is_met in figures.goals(figures.Figures(record))}
        self.assertTrue(goals["64x16x256: dedicated to the floor"])
        self.assertFalse(goals["64x16x256: picows-uring to the floor"])

    def test_clients_are_compared_at_the_same_server(self):
        record = self.record(rounds=1, sections=["rtt"], sizes_rtt=[256])
        found = {
            "256-sleeping": {"picows-uring": 61.0, "dedicated": 59.0, "spinning": 22.0, "beast": 60.0, "fastwebsockets": 70.0},
            "256-spinning": {"picows-uring": 22.0, "dedicated": 21.0, "spinning": 10.0, "beast": 20.0, "fastwebsockets": 19.0},
        }
        for case, clients in found.items():
            for name, value in clients.items():
                self.add(record, "rtt", case, name, {"latency_p50_us": value})
        goals = {what: (value, is_met) for what, _, value, is_met in figures.goals(figures.Figures(record))}
        start = "round trip of 256 bytes, "
        peers = "to the best peer's client"
        self.assertEqual(goals, {
            f"{start}client spinning, server sleeping, {peers}": (22 / 60, False),
            f"{start}client spinning, server spinning, {peers}": (10 / 19, False),
            f"{start}both ends spinning, {peers} and a sleeping server": (10 / 60, True),
            f"{start}blocking, picows-uring, to Beast's client": (61 / 60, False),
            f"{start}blocking, dedicated, to Beast's client": (59 / 60, True),
        })

    def test_a_few_system_calls_in_ten_thousand_messages_are_none(self):
        record = self.record(rounds=1, sections=["syscalls"])
        for name, value in {"dedicated": 2.0004, "picows-uring": 2.006}.items():
            self.add(record, "syscalls", "1x1x256", name, {"syscalls_per_message": value})
        goals = {what: is_met for what, _, _, is_met in figures.goals(figures.Figures(record))}
        self.assertEqual(list(goals.values()), [False, True], goals)

    def test_disturbance_is_counted(self):
        record = self.record()
        self.add(record, "echo", CASE, "epoll", *cpu(1, 1), steal=0.05, attempts=3)
        self.add(record, "echo", CASE, "tokio", *cpu(1), steal=0.01)
        calm = figures.Figures(record).disturbance()
        self.assertEqual((calm["runs"], calm["disturbed"], calm["reruns"]), (3, 2, 4))
        self.assertAlmostEqual(calm["steal_percent_median"], 5.0)


class Page(RecordCase):
    def full(self):
        record = self.record(rounds=1)
        latency = {"latency_p50_us": 50.0, "latency_p99_us": 90.0, "latency_p99.9_us": 120.0}
        for name, value in {"floor": 10.0, "picows-uring": 11.0, "dedicated": 10.4, "epoll": 10.5}.items():
            self.add(record, "echo", "64x1x256", name, *cpu(value))
            self.add(record, "open", "80", name, latency | {"asked_per_s": 1000, "messages_per_s": 900 if name == "epoll" else 999})
            self.add(record, "idle", "10000", name, {"bytes_per_connection": 250.0, "resident_before_bytes": 5e6})
            self.add(record, "rtt", "256-sleeping", name, latency | {"round_trips_per_s": 2e4})
        record.skip("ws", "Node is | not\ninstalled")
        record.fail(Run("echo", "64x1x256", "beast", 1), "it fell over")
        return record

    def test_the_page_opens_with_what_a_reader_needs(self):
        record = self.full()
        self.add(record, "echo", "64x1x256", "uwebsockets", *cpu(12.0))
        text = page.Page(record, "", "plots").render()[0]
        opening = text[: text.index("## The machine")]
        for part in ("- 64 connections, one message of 256 bytes in flight on each: 10.4 µs of server CPU each (dedicated); "
                     "the best library, uwebsockets: 12.0 µs.", "- An idle connection: 250 bytes.", "- Goals: "):
            self.assertIn(part, opening)
        self.assertLessEqual(opening.count("\n- "), 10)

    def test_the_page_has_what_was_measured_and_the_notes(self):
        text, images = page.Page(self.full(), "## What was tried\n\nMany things.\n", "plots").render()
        for part in ("| 64×1×256 | 10.0 | 11.0 | **10.4** | 10.5 |", "*behind*", "skipped: Node is / not installed",
                     "- echo 64×1×256, beast: it fell over", "| 64×1×256 | 1.10 | 1.04 | 1.05 | 0.99 | epoll |",
                     "Some CPU, 2 cores of a virtual machine", "tokio 1.2.3", "Rounds: echo 1, peak 1,", "## Memory of an idle connection"):
            self.assertIn(part, text)
        self.assertTrue(text.endswith("## What was tried\n\nMany things.\n"), text[-80:])
        for name in images:
            self.assertIn(f"(plots/{name})", text)
        self.assertEqual(text, page.Page(self.full(), "## What was tried\n\nMany things.\n", "plots").render()[0])

    def test_an_empty_record_is_a_page_too(self):
        text, images = page.Page(self.record(), "", "plots").render()
        self.assertIn("## The machine", text)
        self.assertEqual(images, {})

    def test_plots_are_images_that_follow_the_page(self):
        for name, svg in page.Page(self.full(), "", "plots").render()[1].items():
            root = ElementTree.fromstring(svg)
            self.assertTrue(root.tag.endswith("svg"), name)
            self.assertIn("prefers-color-scheme: dark", svg)


class Chart(unittest.TestCase):
    def test_dots_lie_where_the_axis_says(self):
        axis = chart.Axis(1, 100)
        self.assertAlmostEqual(axis.x(1), chart.LEFT)
        self.assertAlmostEqual(axis.x(10), (chart.LEFT + chart.WIDTH - chart.RIGHT) / 2)

    def test_an_axis_has_a_handful_of_ticks(self):
        for low, high in ((0.9, 1.4), (1, 100), (0.01, 50_000), (7.0, 7.1), (300, 100_000)):
            ticks = chart.Axis(low, high).ticks()
            self.assertTrue(2 <= len(ticks) <= 9, (low, high, ticks))
            self.assertTrue(all(low <= tick <= high for tick in ticks), ticks)

    def test_names_are_escaped_and_gaps_are_left_out(self):
        svg = chart.dots("a < b", "µs", [("r&d", {"x": 1.0, "y": None}), ("s", {"y": 2.0})], ["x", "y"])
        ElementTree.fromstring(svg)
        self.assertEqual(svg.count("<title>r&amp;d"), 1)
        self.assertEqual(chart.dots("t", "µs", [("a", {"x": None})], ["x"]), "")


if __name__ == "__main__":
    unittest.main()
