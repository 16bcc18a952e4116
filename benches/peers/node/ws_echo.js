// An echo server on the Node package ws; with --fan-out, each message goes to every connection, and with
// --deflate context or no-context, all are compressed.

const { WebSocketServer } = require('ws');

const value = (name) => process.argv[process.argv.indexOf(name) + 1];
const [host, port] = (process.argv.includes('--listen') ? value('--listen') : '127.0.0.1:9001').split(':');
const isFanOut = process.argv.includes('--fan-out');

const context = process.argv.includes('--deflate') && value('--deflate');
const isFresh = context === 'no-context';
const perMessageDeflate = Boolean(context) && {
  threshold: 0, serverNoContextTakeover: isFresh, clientNoContextTakeover: isFresh,
};

const options = { host, port: Number(port), perMessageDeflate, backlog: 4096 };
const server = new WebSocketServer(options, () => {
  console.log(`listening on ws://${host}:${server.address().port}`);
});
server.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => {
    const receivers = isFanOut ? server.clients : [socket];
    for (const receiver of receivers) {
      receiver.send(data, { binary: isBinary });
    }
  });
});
