// An echo server of the Node package ws; with a certificate and its key as arguments, over TLS, and with
// ECHO_DEFLATE in its environment, one that compresses all messages and refuses clients that do not.

const fs = require('fs');
const http = require('http');
const https = require('https');
const { WebSocketServer } = require('ws');

const [certificate, key] = process.argv.slice(2);
const server = certificate
  ? https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) })
  : http.createServer();
const perMessageDeflate = Boolean(process.env.ECHO_DEFLATE) && { threshold: 0 };
new WebSocketServer({ server, perMessageDeflate }).on('connection', (socket) => {
  if (perMessageDeflate && !socket.extensions.includes('permessage-deflate')) socket.close(1008);
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on ${certificate ? 'wss' : 'ws'}://127.0.0.1:${server.address().port}/`);
});
