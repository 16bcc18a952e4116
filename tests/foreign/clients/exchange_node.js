// A client of the Node package ws or undici (first argument): sends messages to an echo server (second) one
// after the other, as they would be with the package's own offers, and checks each echo.

const { WebSocket } = require(process.argv[2]);

const messages = ['', 'x'.repeat(1_000_000), 'täglich '.repeat(4000)];
for (let number = 0; number < 200; number += 1) {
  messages.push(JSON.stringify(Array(number % 7).fill({ channel: 'book', sequence: number, bid: (number * 7919) % 10007 })));
  messages.push(Buffer.from(Array.from({ length: 37 * number }, (_, at) => (at * at * 31 + number) % 251)));
}
const socket = new WebSocket(process.argv[3]);
socket.binaryType = 'arraybuffer';
let sent = 0;
const fail = (word) => {
  console.error(word);
  process.exit(1);
};
const next = () => (sent < messages.length ? socket.send(messages[sent]) : socket.close(1000));
socket.addEventListener('open', next);
socket.addEventListener('error', (event) => fail(`error: ${event.message ?? event.error}`));
socket.addEventListener('message', ({ data }) => {
  const wanted = messages[sent];
  const same = typeof wanted === 'string' ? data === wanted : Buffer.from(data).equals(wanted);
  if (!same) fail(`message ${sent} came back changed`);
  sent += 1;
  next();
});
socket.addEventListener('close', ({ code }) => {
  if (code !== 1000 || sent !== messages.length) fail(`closed with ${code} after ${sent} messages`);
  console.log(`extensions: ${socket.extensions}`);
});
