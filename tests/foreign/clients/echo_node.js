// Clients of Node, one after the other: messages of the sizes given have to come back, and CLOSE with its code.
//
// Arguments: `ws` or `undici`, the URL, a file of roots, sizes.

const assert = require('assert');
const fs = require('fs');

const [library, url, roots, ...sizes] = process.argv.slice(2);
const ca = fs.readFileSync(roots);

function open() {
  if (library === 'ws') {
    const { WebSocket } = require('ws');
    return new WebSocket(url, { ca, perMessageDeflate: false });
  }
  const { WebSocket, Agent } = require('undici');
  return new WebSocket(url, { dispatcher: new Agent({ connect: { ca } }) });
}

const socket = open();
socket.binaryType = 'arraybuffer';
const messages = sizes.flatMap((size) => {
  const bytes = Uint8Array.from({ length: Number(size) }, (_, index) => index % 251);
  return [bytes, 'x'.repeat(Number(size))];
});
let next = 0;

function send() {
  if (next === messages.length) {
    socket.close(3000, 'done');
  } else {
    socket.send(messages[next]);
  }
}

socket.onopen = send;
socket.onerror = (event) => {
  console.error(event.message || event.error);
  process.exit(1);
};
socket.onmessage = ({ data }) => {
  const expected = messages[next++];
  if (typeof expected === 'string') {
    assert.ok(data === expected, `a text of ${expected.length}`);
  } else {
    assert.ok(Buffer.from(data).equals(Buffer.from(expected)), `${expected.length} bytes`);
  }
  send();
};
socket.onclose = (event) => {
  assert.deepStrictEqual([event.code, event.reason, next], [3000, 'done', messages.length]);
  console.log(`${next} messages`);
};
