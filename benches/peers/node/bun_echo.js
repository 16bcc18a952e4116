// An echo server on Bun, whose WebSockets are those of uWebSockets.

const value = (name) => process.argv[process.argv.indexOf(name) + 1];
const [hostname, port] = (process.argv.includes('--listen') ? value('--listen') : '127.0.0.1:9001').split(':');

const server = Bun.serve({
  hostname,
  port: Number(port),
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response('upgrade', { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    maxPayloadLength: 64 * 1024 * 1024,
    backpressureLimit: 64 * 1024 * 1024,
    message(socket, message) {
      socket.send(message);
    },
  },
});
console.log(`listening on ws://${hostname}:${server.port}`);
