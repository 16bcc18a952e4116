// Round trips with the client of Boost.Beast: blocking calls, which is the quickest it has.

#include "arguments.hpp"

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;

// Of a duration such as 300ms or 2s.
static std::chrono::milliseconds parse_duration(const std::string& text) {
    const bool is_milliseconds = text.size() > 2 && text.substr(text.size() - 2) == "ms";
    return std::chrono::milliseconds(static_cast<long>(std::stod(text) * (is_milliseconds ? 1 : 1000)));
}

static double quantile_us(const std::vector<std::int64_t>& sorted_ns, double quantile) {
    const auto at = static_cast<std::size_t>(quantile * static_cast<double>(sorted_ns.size()));
    return static_cast<double>(sorted_ns[std::min(at, sorted_ns.size() - 1)]) / 1e3;
}

int main(int argc, char** argv) {
    const auto values = parse_arguments(argc, argv);
    const auto server = parse_address(values.at("url-addr"));
    const auto size = static_cast<std::size_t>(std::stoul(values.at("size")));
    const auto warmup = parse_duration(values.at("warmup"));
    const auto duration = parse_duration(values.at("duration"));

    asio::io_context context{1};
    websocket::stream<tcp::socket, false> stream{context};
    stream.next_layer().connect({asio::ip::make_address(server.host), server.port});
    stream.next_layer().set_option(tcp::no_delay(true));
    stream.handshake(values.at("url-addr"), "/");
    stream.binary(true);
    // A message leaves in one frame, and is masked in one go.
    stream.auto_fragment(false);
    stream.write_buffer_bytes(std::max<std::size_t>(size + 16, 4096));
    const std::vector<char> payload(size, 7);
    beast::flat_buffer echo;
    std::vector<std::int64_t> taken_ns;
    taken_ns.reserve(1 << 20);

    const auto begin = Clock::now();
    auto sent_at = begin;
    for (;;) {
        stream.write(asio::buffer(payload));
        echo.clear();
        stream.read(echo);
        if (echo.size() != size || std::memcmp(echo.data().data(), payload.data(), size) != 0) {
            std::cerr << "the echo is wrong\n";
            return 1;
        }
        const auto now = Clock::now();
        if (now - begin >= warmup) {
            taken_ns.push_back(std::chrono::nanoseconds(now - sent_at).count());
        }
        sent_at = now;
        if (now - begin >= warmup + duration) {
            break;
        }
    }
    std::sort(taken_ns.begin(), taken_ns.end());
    const double rate = static_cast<double>(taken_ns.size()) * 1e3 / static_cast<double>(duration.count());
    std::printf(
        "{\"rate_per_s\": %.1f, \"latency_us\": {\"p50\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f}}\n", rate,
        quantile_us(taken_ns, 0.5), quantile_us(taken_ns, 0.99), quantile_us(taken_ns, 0.999));
}
