// An echo server on Boost.Beast over OpenSSL: callbacks, one thread, a buffer for each connection.

#include "arguments.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/ssl.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>
#include <memory>
#include <sys/resource.h>
#include <utility>

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using tcp = asio::ip::tcp;

// The executor is named, so that it is not looked up behind a virtual call.
using Socket = asio::basic_stream_socket<tcp, asio::io_context::executor_type>;

class Session : public std::enable_shared_from_this<Session> {
public:
    Session(Socket&& socket, ssl::context& tls) : stream_(std::move(socket), tls) {}

    void start() {
        stream_.next_layer().next_layer().set_option(tcp::no_delay(true));
        // A message leaves in one frame, as it came.
        stream_.auto_fragment(false);
        stream_.set_option(websocket::stream_base::timeout{
            std::chrono::seconds(5), websocket::stream_base::none(), false});
        stream_.next_layer().async_handshake(
            ssl::stream_base::server, [self = shared_from_this()](beast::error_code error) {
                if (!error) {
                    self->upgrade();
                }
            });
    }

private:
    void upgrade() {
        stream_.async_accept([self = shared_from_this()](beast::error_code error) {
            if (!error) {
                self->read();
            }
        });
    }

    void read() {
        stream_.async_read(buffer_, [self = shared_from_this()](beast::error_code error, std::size_t) {
            if (!error) {
                self->write();
            }
        });
    }

    void write() {
        stream_.text(stream_.got_text());
        stream_.async_write(
            buffer_.data(), [self = shared_from_this()](beast::error_code error, std::size_t) {
                if (!error) {
                    self->buffer_.clear();
                    self->read();
                }
            });
    }

    websocket::stream<ssl::stream<Socket>, false> stream_;
    beast::flat_buffer buffer_;
};

using Acceptor = asio::basic_socket_acceptor<tcp, asio::io_context::executor_type>;

static void accept(Acceptor& acceptor, ssl::context& tls) {
    acceptor.async_accept([&acceptor, &tls](beast::error_code error, Socket socket) {
        if (!error) {
            std::make_shared<Session>(std::move(socket), tls)->start();
        }
        accept(acceptor, tls);
    });
}

int main(int argc, char** argv) {
    const auto values = parse_arguments(argc, argv);
    const auto listen = parse_address(values.count("listen") ? values.at("listen") : "127.0.0.1:9001");
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);

    ssl::context tls{ssl::context::tls_server};
    tls.use_certificate_chain_file(values.at("tls-cert"));
    tls.use_private_key_file(values.at("tls-key"), ssl::context::pem);
    SSL_CTX_set_num_tickets(tls.native_handle(), 1);
    SSL_CTX_set_mode(tls.native_handle(), SSL_MODE_RELEASE_BUFFERS);

    asio::io_context context{1};
    Acceptor acceptor{context, {asio::ip::make_address(listen.host), listen.port}};
    std::cout << "listening on wss://" << acceptor.local_endpoint() << std::endl;
    accept(acceptor, tls);
    context.run();
}
