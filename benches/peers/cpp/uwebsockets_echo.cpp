// An echo server on uWebSockets: one thread; with --deflate context or no-context, all messages are compressed.
//
// Compressor and expander have windows of 4 KiB with context takeover, as the others of 12 bits, and are shared by
// all connections without.

#include "arguments.hpp"

#include <App.h>
#include <string>
#include <string_view>
#include <sys/resource.h>

struct Nothing {};

static uWS::CompressOptions compression_of(const std::string& deflate) {
    if (deflate == "context") {
        // Named after all that it takes.
        return uWS::CompressOptions(uWS::DEDICATED_COMPRESSOR_32KB | uWS::DEDICATED_DECOMPRESSOR_4KB);
    }
    return deflate.empty() ? uWS::DISABLED : uWS::CompressOptions(uWS::SHARED_COMPRESSOR | uWS::SHARED_DECOMPRESSOR);
}

int main(int argc, char** argv) {
    const auto values = parse_arguments(argc, argv);
    const auto listen = parse_address(values.count("listen") ? values.at("listen") : "127.0.0.1:9001");
    const std::string deflate = values.count("deflate") ? values.at("deflate") : "";
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);

    const bool is_compressed = !deflate.empty();
    uWS::App::WebSocketBehavior<Nothing> behavior;
    behavior.compression = compression_of(deflate);
    behavior.maxPayloadLength = 16 * 1024 * 1024;
    behavior.maxBackpressure = 64 * 1024 * 1024;
    behavior.idleTimeout = 0;
    behavior.sendPingsAutomatically = false;
    behavior.message = [is_compressed](auto* socket, std::string_view message, uWS::OpCode code) {
        socket->send(message, code, is_compressed);
    };
    uWS::App app;
    app.ws<Nothing>("/*", std::move(behavior));
    app.listen(listen.host, listen.port, [&listen](us_listen_socket_t* socket) {
        if (!socket) {
            std::cerr << "cannot listen on " << listen.host << ":" << listen.port << "\n";
            std::exit(1);
        }
        const int port = us_socket_local_port(0, reinterpret_cast<us_socket_t*>(socket));
        std::cout << "listening on ws://" << listen.host << ":" << port << std::endl;
    });
    app.run();
}
