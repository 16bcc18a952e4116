//! End of `picows connect --help`: one example at least for each option, and the exit status.

pub(super) const EXAMPLES: &str = "\
Examples:
  picows connect ws://127.0.0.1:9001/
      lines of the terminal out as text, messages in
  echo ping | picows connect --one-message ws://127.0.0.1:9001/
      one question, and its answer
  picows connect --no-close --max-messages 10 --json ws://HOST/feed </dev/null
      ten messages of a feed, each a line of JSON
  picows connect --exit-on-close-code 4000 --exit-on-close-code 4401=10 ws://HOST/
      4000 is a success, and 4401 status 10
  picows connect --header 'Origin: https://example.com' --subprotocol chat --redirect-keeps all ws://HOST/
      a header and a subprotocol, which servers that this one redirects to get as well
  picows connect --binary --max-frame-size 1MiB ws://HOST/ <file >answer
      bytes, in pieces of up to 64 KiB
  picows connect --linger 2s --close-timeout 10s ws://HOST/ <questions
      two seconds for answers before CLOSE, and ten for its answer

The client's end, and the way to the server:
  picows connect --no-close --ping-interval 20s --auto-ping 10s,5s --auto-ping-strategy periodic ws://HOST/
      pings of both kinds, until the server closes
  picows connect --deflate --deflate-level 9 --deflate-window 15 ws://HOST/
      compression, as much as there is
  picows connect --deflate --deflate-no-context ws://HOST/
      each message compressed by itself
  picows connect --proxy https://proxy.example:3128 --proxy-ca proxy-ca.pem ws://HOST/
      through a proxy behind TLS
  picows connect --tls-ca ca.pem --tls-cert client.pem --tls-key client.key wss://HOST/
      to a server of a private authority that asks for a certificate
  picows connect --tls-insecure wss://127.0.0.1:9001/
      whatever certificate the server has
  picows connect --driver epoll --event-loop tokio --busy-poll 50us ws://HOST/
      on epoll with tokio's own loop, spinning for 50 µs before it sleeps
  picows connect --dedicated ws://HOST/ <questions
      in the ring alone, without a loop

Exit status:
  0      the server closed with 1000, 1001 or no code, before or after us
  1      the server closed with another code, which is shown with its reason
         the server ended the connection without CLOSE, or did not answer ours
         the connection could not be made, it broke, or a ping was not answered
         the server sent text that is not UTF-8 (it gets CLOSE 1007; --binary
         accepts it), a frame that is too large (1009), or no WebSocket (1002)
         standard input could not be read, or standard output not be written
  N      the server closed with a code that --exit-on-close-code names
  2      the command line is wrong
  128+N  signal N ended it: 129 HUP, 130 INT, 131 QUIT, 143 TERM";
