// Subscribers of Node to a topic of `picows pubsub`: print its messages, so many, and close.
//
// Arguments: `ws` or `undici`, the URL, the number of messages.

const [library, url, count] = process.argv.slice(2);
const { WebSocket } = require(library);

const socket = new WebSocket(url, ['picows.pubsub.1']);
let left = Number(count);

socket.onmessage = (event) => {
  console.log(event.data);
  left -= 1;
  if (left === 0) {
    socket.close(1000, 'done');
  }
};
socket.onerror = (event) => {
  console.error(event.message || event.error);
  process.exit(1);
};
socket.onclose = (event) => process.exit(event.code === 1000 && left === 0 ? 0 : 1);
