/* Failures of callbacks and routes, attempts that come to nothing, and users freed last and once. */
#include "pair.h"

static struct end stray;

static int returns(void *user, const pwu_request *request, pwu_answer *answer) {
  answer->callbacks = &stray.callbacks;
  answer->user = &stray;
  (void)request;
  return *(int *)user;
}

static int releases;

static void release(void *user) {
  free(user);
  releases++;
}

/* Refuses with what is in the structure, which goes as soon as it was read. */
static int refuses(void *user, const pwu_request *request, pwu_answer *answer) {
  pwu_header *headers = (pwu_header *)malloc(sizeof *headers);
  (void)user;
  (void)request;
  headers[0].name.data = "X-Reason";
  headers[0].name.size = 8;
  headers[0].value.data = "full";
  headers[0].value.size = 4;
  answer->status = 403;
  answer->headers = headers;
  answer->count = 1;
  answer->body.data = "go away";
  answer->body.size = 7;
  answer->release = release;
  answer->release_user = headers;
  return 0;
}

static pwu_str refused_head, refused_body;
static char head_copy[1024], body_copy[1024];

static void refused(void *user, pwu_conn *conn, const pwu_error *error) {
  EXPECT(conn == NULL);
  EXPECT_INT(pwu_error_kind(error), PWU_ERROR_ANSWER_STATUS);
  EXPECT_INT(pwu_error_response(error, &refused_head, &refused_body), 403);
  EXPECT_INT(pwu_error_errno(error), 0);
  EXPECT(refused_head.size < sizeof head_copy && refused_body.size < sizeof body_copy);
  memcpy(head_copy, refused_head.data, refused_head.size);
  memcpy(body_copy, refused_body.data, refused_body.size);
  EXPECT_INT(((struct end *)user)->freed, 0);
  ((struct end *)user)->outcomes++;
}

static void last_outcome(void *user, pwu_conn *conn, const pwu_error *error) {
  EXPECT(conn == NULL && pwu_error_kind(error) == PWU_ERROR_DISCONNECTED);
  EXPECT_INT(((struct end *)user)->freed, 4);
  ((struct end *)user)->outcomes++;
}

static void refusals(void) {
  struct pair pair;
  int code = 0;
  pwu_server *server;
  pwu_attempt *attempt;
  end_init(&stray);
  pair_init(&pair, NULL);
  server = pwu_listen(pair.worker, "127.0.0.1:0", -1, NULL, refuses, NULL, NULL, NULL);
  attempt = pwu_connect(pair.worker, "ws://a/", dial(pwu_server_url(server)), NULL, 0, NULL,
                        &pair.at_client.callbacks, &pair.at_client, refused, NULL);
  EXPECT_INT(pwu_attempt_free(attempt), PWU_OK);
  turn_until_count(pair.worker, &pair.at_client.freed, 1);
  EXPECT_INT(pair.at_client.outcomes, 1);
  EXPECT_INT(pair.at_client.connected, 0);
  EXPECT_INT(releases, 1);
  EXPECT(memcmp(head_copy, "HTTP/1.1 403 Forbidden\r\n", 24) == 0);
  EXPECT(strstr(head_copy, "x-reason: full") != NULL || strstr(head_copy, "X-Reason: full") != NULL);
  EXPECT(strcmp(body_copy, "go away") == 0);
  EXPECT_INT(pwu_server_close(server), PWU_OK);

  /* A route that fails is answered with 500, and what it gave is freed. */
  code = 1;
  server = pwu_listen(pair.worker, "127.0.0.1:0", -1, NULL, returns, &code, NULL, NULL);
  attempt = pwu_connect(pair.worker, "ws://a/", dial(pwu_server_url(server)), NULL, 0, NULL,
                        &pair.at_client.callbacks, &pair.at_client, end_outcome, NULL);
  EXPECT_INT(pwu_attempt_free(attempt), PWU_OK);
  turn_until_count(pair.worker, &pair.at_client.freed, 2);
  EXPECT_INT(pair.at_client.refusal_status, 500);
  EXPECT_INT(stray.freed, 1);
  EXPECT_INT(stray.connected, 0);
  EXPECT_INT(pwu_server_close(server), PWU_OK);
  pair_free(&pair);
}

/* A callback of the client fails with `code`: what the server receives. */
static void fails(int code, const char *reason, int expected, int of_connected) {
  struct pair pair;
  pwu_close_info info;
  pair_init(&pair, NULL);
  if (of_connected) {
    pair.at_client.connected_returns = code;
    pair_open(&pair, NULL);
  } else {
    pair_open(&pair, NULL);
    pair.at_client.frame_returns = code;
    if (reason != NULL) {
      EXPECT_INT(pwu_set_close_reason(pair.at_client.conn, reason, strlen(reason)), PWU_OK);
    }
    EXPECT_INT(pwu_send(pair.at_server.conn, PWU_TEXT, "1", 1), PWU_OK);
    EXPECT_INT(pwu_send(pair.at_server.conn, PWU_TEXT, "2", 1), PWU_OK);
  }
  turn_until_count(pair.worker, &pair.at_server.freed, 1);
  turn_until_count(pair.worker, &pair.at_client.freed, 1);
  EXPECT_INT(pair.at_client.frames, of_connected ? 0 : 1);
  EXPECT_INT(pair.at_client.disconnected, 1);
  info.size = sizeof info;
  EXPECT_INT(pwu_get_close_info(pair.at_server.conn, &info), PWU_OK);
  EXPECT(info.is_received && info.received_first);
  EXPECT_INT(info.received_code, expected);
  EXPECT(is_text(info.received_reason, reason == NULL ? "" : reason));
  EXPECT_INT(info.cause, PWU_CAUSE_CLOSED);
  EXPECT_INT(pwu_get_close_info(pair.at_client.conn, &info), PWU_OK);
  EXPECT_INT(info.cause, PWU_CAUSE_CALLBACK);
  EXPECT(info.cause_text.size > 10);
  pair_free(&pair);
}

static int pings, pongs;

static int own_ping(void *user, pwu_conn *conn) {
  (void)user;
  pings++;
  return pwu_send(conn, PWU_TEXT, "ping", 4) >= 0 ? 0 : -1;
}

static int own_pong(void *user, pwu_conn *conn, const pwu_frame *frame) {
  (void)user;
  (void)conn;
  if (frame->type != PWU_TEXT) {
    return 0;
  }
  pongs++;
  return pongs == 2 ? -1 : 1;
}

/* Pings of the program's own, `ms` apart; the second answer fails the connection. Returns 0 if the peer
 * was too slow for that. */
static int own_pings(unsigned ms) {
  struct pair pair;
  pwu_options options;
  pwu_close_info info;
  EXPECT_INT(pwu_options_init(&options, sizeof options, 0), PWU_OK);
  options.ping_idle_ms = ms;
  options.ping_periodic = 1;
  pings = pongs = 0;
  pair_init(&pair, NULL);
  pair.at_client.callbacks.send_ping = own_ping;
  pair.at_client.callbacks.is_pong = own_pong;
  pair.at_server.answers = 1;
  pair_open(&pair, &options);
  turn_until_count(pair.worker, &pair.at_client.freed, 1);
  info.size = sizeof info;
  EXPECT_INT(pwu_get_close_info(pair.at_client.conn, &info), PWU_OK);
  EXPECT_INT(pair.at_client.frames, 0);
  EXPECT(pings >= pongs);
  pair_free(&pair);
  if (info.cause == PWU_CAUSE_PING_TIMEOUT) {
    return 0;
  }
  EXPECT_INT(info.cause, PWU_CAUSE_CALLBACK);
  EXPECT_INT(pongs, 2);
  return 1;
}

/* Attempts that end in another way than by an answer. */
static void attempts(void) {
  struct pair pair;
  pwu_options options;
  pwu_error *error = NULL;
  pwu_attempt *attempt;
  int silence;
  pair_init(&pair, NULL);
  EXPECT_INT(pwu_options_init(&options, sizeof options, 0), PWU_OK);

  options.handshake_ms = 1;
  attempt = pwu_connect(pair.worker, "ws://a/", dial_silence(&silence), NULL, 0, &options,
                        &pair.at_client.callbacks, &pair.at_client, end_outcome, &error);
  turn_until_count(pair.worker, &pair.at_client.freed, 1);
  EXPECT_INT(pair.at_client.refusal_kind, PWU_ERROR_TIMEOUT);
  EXPECT(strstr(pair.at_client.refusal, "1ms") != NULL);
  /* After the outcome it is freed only. */
  EXPECT_INT(pwu_attempt_abandon(attempt), PWU_OK);
  close(silence);

  options.handshake_ms = 0;
  attempt = pwu_connect(pair.worker, "ws://a/", dial_silence(&silence), NULL, 0, &options,
                        &pair.at_client.callbacks, &pair.at_client, end_outcome, &error);
  EXPECT_INT(pwu_attempt_abandon(attempt), PWU_OK);
  turn_until_count(pair.worker, &pair.at_client.freed, 2);
  EXPECT_INT(pair.at_client.outcomes, 1);
  close(silence);

  /* Refused at once; the user is freed all the same, and a NULL outcome is no matter. */
  EXPECT(pwu_connect(pair.worker, "http://a/", dial_silence(&silence), NULL, 0, NULL,
                     &pair.at_client.callbacks, &pair.at_client, NULL, &error) == NULL);
  EXPECT_INT(pwu_error_kind(error), PWU_ERROR_URL);
  EXPECT(strstr(pwu_error_text(error), "http://a/") != NULL);
  pwu_error_free(error);
  EXPECT_INT(pair.at_client.freed, 3);
  close(silence);
  EXPECT(pwu_connect(pair.worker, "ws://a/", -1, NULL, 0, NULL, &pair.at_client.callbacks,
                     &pair.at_client, NULL, &error) == NULL);
  EXPECT_INT(pwu_error_kind(error), PWU_ERROR_SETTING);
  EXPECT(strstr(pwu_error_text(error), "connected socket") != NULL);
  pwu_error_free(error);
  EXPECT_INT(pair.at_client.freed, 4);
  EXPECT_INT(pair.at_client.outcomes, 1);

  /* Freed with the attempt under way: its outcome is called, and then its user is freed. */
  attempt = pwu_connect(pair.worker, "ws://a/", dial_silence(&silence), NULL, 0, &options,
                        &pair.at_client.callbacks, &pair.at_client, last_outcome, &error);
  EXPECT(attempt != NULL);
  EXPECT(pwu_worker_turn(pair.worker, 0) >= 0);
  pair_free(&pair);
  EXPECT_INT(pair.at_client.freed, 5);
  EXPECT_INT(pair.at_client.outcomes, 2);
  EXPECT_INT(pwu_attempt_free(attempt), PWU_OK);
  close(silence);
}

int main(void) {
  unsigned ms = 5;
  refusals();
  fails(4321, "own reason", 4321, 0);
  fails(1003, NULL, 1003, 0);
  fails(-1, NULL, 1011, 0);
  fails(1005, NULL, 1011, 0);
  fails(70000, NULL, 1011, 0);
  fails(4000, NULL, 4000, 1);
  while (!own_pings(ms)) {
    ms *= 10;
    EXPECT(ms < 100000);
  }
  attempts();
  return 0;
}
