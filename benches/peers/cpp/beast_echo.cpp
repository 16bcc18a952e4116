// An echo server on Boost.Beast: callbacks, one thread, a buffer for each connection; with --deflate context
// or no-context, all messages are compressed.

#include "arguments.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <utility>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using tcp = asio::ip::tcp;

// The executor is named, so that it is not looked up behind a virtual call.
using Socket = asio::basic_stream_socket<tcp, asio::io_context::executor_type>;

// Empty, context or no-context.
static std::string deflate;

template <bool is_deflating>
class Session : public std::enable_shared_from_this<Session<is_deflating>> {
public:
    explicit Session(Socket&& socket) : stream_(std::move(socket)) {}

    void start() {
        if constexpr (is_deflating) {
            websocket::permessage_deflate settings;
            settings.server_enable = true;
            settings.server_no_context_takeover = deflate == "no-context";
            settings.client_no_context_takeover = deflate == "no-context";
            stream_.set_option(settings);
        }
        stream_.next_layer().set_option(tcp::no_delay(true));
        // A message leaves in one frame, as it came.
        stream_.auto_fragment(false);
        stream_.set_option(websocket::stream_base::timeout{
            std::chrono::seconds(5), websocket::stream_base::none(), false});
        stream_.async_accept([self = this->shared_from_this()](beast::error_code error) {
            if (!error) {
                self->read();
            }
        });
    }

private:
    void read() {
        stream_.async_read(buffer_, [self = this->shared_from_this()](beast::error_code error, std::size_t) {
            if (!error) {
                self->write();
            }
        });
    }

    void write() {
        stream_.text(stream_.got_text());
        stream_.async_write(
            buffer_.data(), [self = this->shared_from_this()](beast::error_code error, std::size_t) {
                if (!error) {
                    self->buffer_.clear();
                    self->read();
                }
            });
    }

    websocket::stream<Socket, is_deflating> stream_;
    beast::flat_buffer buffer_;
};

using Acceptor = asio::basic_socket_acceptor<tcp, asio::io_context::executor_type>;

static void accept(Acceptor& acceptor) {
    acceptor.async_accept([&acceptor](beast::error_code error, Socket socket) {
        if (!error) {
            if (deflate.empty()) {
                std::make_shared<Session<false>>(std::move(socket))->start();
            } else {
                std::make_shared<Session<true>>(std::move(socket))->start();
            }
        }
        accept(acceptor);
    });
}

int main(int argc, char** argv) {
    const auto values = parse_arguments(argc, argv);
    const auto listen = parse_address(values.count("listen") ? values.at("listen") : "127.0.0.1:9001");
    deflate = values.count("deflate") ? values.at("deflate") : "";
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);

    asio::io_context context{1};
    Acceptor acceptor{context, {asio::ip::make_address(listen.host), listen.port}};
    std::cout << "listening on ws://" << acceptor.local_endpoint() << std::endl;
    accept(acceptor);
    context.run();
}
