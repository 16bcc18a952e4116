/* Connections over streams that the program carries: two ends of memory, and what breaks them. */
#include <errno.h>

#include "pair.h"

enum { ROOM = 1 << 20 };

/* One direction: bytes that were written and not delivered. */
struct carrier {
  struct carrier *other;
  pwu_outside *outside; /* of this end */
  char *bytes;
  size_t count;
  int holds;    /* it reports that nothing has been passed on */
  int pauses, shuts, closes, frees, writes;
};

static void carrier_init(struct carrier *carrier, struct carrier *other) {
  memset(carrier, 0, sizeof *carrier);
  carrier->other = other;
  carrier->bytes = (char *)malloc(ROOM);
}

static void set_reading(void *user, int on) { ((struct carrier *)user)->pauses += !on; }

static int write_bytes(void *user, const void *data, size_t size) {
  struct carrier *carrier = (struct carrier *)user;
  EXPECT(carrier->count + size <= ROOM);
  memcpy(carrier->bytes + carrier->count, data, size);
  carrier->count += size;
  carrier->writes++;
  return !carrier->holds;
}

static void shut_down(void *user) { ((struct carrier *)user)->shuts++; }

static void close_stream(void *user) { ((struct carrier *)user)->closes++; }

static void free_stream(void *user) { ((struct carrier *)user)->frees++; }

static pwu_outside_ops table(void) {
  pwu_outside_ops ops;
  memset(&ops, 0, sizeof ops);
  ops.size = sizeof ops;
  ops.set_reading = set_reading;
  ops.write = write_bytes;
  ops.shut_down = shut_down;
  ops.close = close_stream;
  ops.free_user = free_stream;
  return ops;
}

/* Delivers what one end has written to the other, in pieces as large as the worker has room for. */
static void deliver(struct carrier *from) {
  size_t done = 0;
  while (done < from->count) {
    size_t room = 0, left = from->count - done;
    void *buffer = pwu_outside_buffer(from->other->outside, &room);
    EXPECT(buffer != NULL && room > 0);
    room = left < room ? left : room;
    memcpy(buffer, from->bytes + done, room);
    EXPECT_INT(pwu_outside_filled(from->other->outside, room), PWU_OK);
    done += room;
  }
  from->count = 0;
}

struct stage {
  struct pair pair;
  struct carrier client, server;
  pwu_server *served;
};

/* Takes turns and delivers, until there is nothing to do. */
static void settle(struct stage *stage) {
  int quiet = 0;
  while (quiet < 2) {
    int turned = pwu_worker_turn(stage->pair.worker, 0);
    EXPECT(turned >= 0);
    quiet = turned == PWU_IDLE && !stage->client.count && !stage->server.count ? quiet + 1 : 0;
    deliver(&stage->client);
    deliver(&stage->server);
    if (stage->client.shuts == 1) {
      stage->client.shuts++;
      EXPECT_INT(pwu_outside_ended(stage->server.outside, 0), PWU_OK);
    }
    if (stage->server.shuts == 1) {
      stage->server.shuts++;
      EXPECT_INT(pwu_outside_ended(stage->client.outside, 0), PWU_OK);
    }
  }
}

static void stage_open(struct stage *stage) {
  pwu_error *error = NULL;
  pwu_attempt *attempt;
  pwu_outside_ops ops = table();
  pwu_str peer = {"192.0.2.7:4711", 14};
  carrier_init(&stage->client, &stage->server);
  carrier_init(&stage->server, &stage->client);
  end_init(&stage->pair.at_server);
  end_init(&stage->pair.at_client);
  stage->pair.at_server.answers = 1;
  stage->pair.worker = new_worker();
  stage->served = pwu_serve_outside(stage->pair.worker, NULL, end_route, &stage->pair.at_server,
                                    NULL, &error);
  EXPECT(stage->served != NULL);
  stage->server.outside = pwu_accept_outside(stage->pair.worker, stage->served, &ops,
                                             &stage->server, peer, &error);
  EXPECT(stage->server.outside != NULL);
  attempt = pwu_connect_outside(stage->pair.worker, "ws://localhost/", &ops, &stage->client,
                                &stage->client.outside, NULL, 0, NULL,
                                &stage->pair.at_client.callbacks, &stage->pair.at_client,
                                end_outcome, &error);
  EXPECT(attempt != NULL && stage->client.outside != NULL);
  EXPECT_INT(pwu_attempt_free(attempt), PWU_OK);
  settle(stage);
  EXPECT_INT(stage->pair.at_client.outcomes, 1);
  EXPECT(stage->pair.at_client.conn != NULL && stage->pair.at_server.conn != NULL);
}

static void stage_close(struct stage *stage) {
  EXPECT_INT(pwu_outside_free(stage->client.outside), PWU_OK);
  EXPECT_INT(pwu_outside_free(stage->server.outside), PWU_OK);
  EXPECT_INT(pwu_conn_unref(stage->pair.at_client.conn), PWU_OK);
  EXPECT_INT(pwu_conn_unref(stage->pair.at_server.conn), PWU_OK);
  EXPECT_INT(pwu_server_close(stage->served), PWU_OK);
  EXPECT_INT(pwu_worker_free(stage->pair.worker), PWU_OK);
  EXPECT_INT(stage->client.closes, 1);
  EXPECT_INT(stage->client.frees, 1);
  EXPECT_INT(stage->server.closes, 1);
  EXPECT_INT(stage->server.frees, 1);
  EXPECT_INT(stage->pair.at_client.disconnected, 1);
  EXPECT_INT(stage->pair.at_server.disconnected, 1);
  free(stage->client.bytes);
  free(stage->server.bytes);
}

/* Messages of all sizes there and back, and the close handshake. */
static void echoes(void) {
  static const size_t sizes[] = {0, 5, 1000, 70000, 300000};
  static char payload[300000];
  struct stage stage;
  pwu_request request;
  size_t i;
  stage_open(&stage);
  request.size = sizeof request;
  EXPECT_INT(pwu_get_request(stage.pair.at_server.conn, &request), PWU_OK);
  EXPECT(is_text(request.peer, "192.0.2.7:4711"));
  EXPECT(pwu_outside_of(stage.pair.at_client.conn) == &stage.client);
  EXPECT(pwu_outside_of(stage.pair.at_server.conn) == &stage.server);
  EXPECT_INT(pwu_socket(stage.pair.at_client.conn), PWU_CLOSED);
  memset(payload, 'y', sizeof payload);
  for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    EXPECT(pwu_send(stage.pair.at_client.conn, PWU_BINARY, payload, sizes[i]) >= 0);
    settle(&stage);
    EXPECT_INT(stage.pair.at_client.frames, i + 1);
    EXPECT_INT(stage.pair.at_client.last_size, sizes[i]);
    EXPECT(sizes[i] == 0 || stage.pair.at_client.last[0] == 'y');
  }
  EXPECT_INT(pwu_send_close(stage.pair.at_client.conn, 1000, "bye", 3), PWU_OK);
  settle(&stage);
  EXPECT_INT(stage.pair.at_client.freed, 1);
  EXPECT_INT(stage.pair.at_server.freed, 1);
  EXPECT(pwu_outside_of(stage.pair.at_client.conn) == NULL);
  stage_close(&stage);
}

/* What the carrier holds counts as buffered: pauses, the latest of a key, and resuming. */
static void holds(void) {
  static char payload[100000];
  struct stage stage;
  stage_open(&stage);
  stage.client.holds = 1;
  EXPECT_INT(pwu_send(stage.pair.at_client.conn, PWU_BINARY, payload, sizeof payload), PWU_OK);
  EXPECT(pwu_worker_turn(stage.pair.worker, 0) >= 0);
  EXPECT_INT(stage.client.writes > 0, 1);
  EXPECT(pwu_buffered(stage.pair.at_client.conn) > (long long)sizeof payload);
  EXPECT_INT(pwu_send_latest(stage.pair.at_client.conn, 1, PWU_TEXT, "old", 3), PWU_CONGESTED);
  EXPECT_INT(pwu_send_latest(stage.pair.at_client.conn, 1, PWU_TEXT, "new", 3), PWU_REPLACED);
  EXPECT(pwu_worker_turn(stage.pair.worker, 0) >= 0);
  EXPECT_INT(stage.pair.at_client.pauses, 1);
  stage.client.holds = 0;
  EXPECT_INT(pwu_outside_drained(stage.client.outside), PWU_OK);
  settle(&stage);
  EXPECT_INT(stage.pair.at_client.resumes, 1);
  EXPECT_INT(stage.pair.at_server.frames, 2);
  EXPECT(strcmp(stage.pair.at_server.last, "new") == 0);
  EXPECT_INT(pwu_buffered(stage.pair.at_client.conn), 0);
  /* A worker that does not read holds the carrier back. */
  EXPECT_INT(pwu_pause_reading(stage.pair.at_server.conn, 1), PWU_OK);
  settle(&stage);
  EXPECT_INT(pwu_send(stage.pair.at_client.conn, PWU_BINARY, payload, sizeof payload), PWU_OK);
  settle(&stage);
  EXPECT_INT(stage.server.pauses, 1);
  EXPECT_INT(stage.pair.at_server.frames, 2);
  EXPECT_INT(pwu_pause_reading(stage.pair.at_server.conn, 0), PWU_OK);
  settle(&stage);
  EXPECT_INT(stage.pair.at_server.frames, 3);
  EXPECT_INT(pwu_abort(stage.pair.at_client.conn), PWU_OK);
  settle(&stage);
  EXPECT_INT(stage.client.closes, 1);
  EXPECT_INT(pwu_outside_ended(stage.server.outside, ECONNRESET), PWU_OK);
  settle(&stage);
  EXPECT_INT(stage.pair.at_server.freed, 1);
  stage_close(&stage);
}

/* Freed with open streams. */
static void freed(void) {
  struct stage stage;
  stage_open(&stage);
  EXPECT_INT(pwu_server_close(stage.served), PWU_OK);
  EXPECT_INT(pwu_worker_free(stage.pair.worker), PWU_OK);
  EXPECT_INT(stage.client.frees, 1);
  EXPECT_INT(stage.server.frees, 1);
  EXPECT_INT(stage.pair.at_client.freed, 1);
  EXPECT_INT(pwu_outside_filled(stage.client.outside, 1), PWU_OK);
  EXPECT_INT(pwu_outside_ended(stage.client.outside, 0), PWU_OK);
  EXPECT_INT(pwu_outside_free(stage.client.outside), PWU_OK);
  EXPECT_INT(pwu_outside_free(stage.server.outside), PWU_OK);
  EXPECT_INT(pwu_conn_unref(stage.pair.at_client.conn), PWU_OK);
  EXPECT_INT(pwu_conn_unref(stage.pair.at_server.conn), PWU_OK);
  free(stage.client.bytes);
  free(stage.server.bytes);
}

static void *elsewhere(void *user) {
  struct carrier *carrier = (struct carrier *)user;
  size_t size;
  EXPECT(pwu_outside_buffer(carrier->outside, &size) == NULL);
  EXPECT_INT(pwu_outside_filled(carrier->outside, 1), PWU_WRONG_THREAD);
  EXPECT_INT(pwu_outside_ended(carrier->outside, 0), PWU_WRONG_THREAD);
  EXPECT_INT(pwu_outside_drained(carrier->outside), PWU_WRONG_THREAD);
  EXPECT_INT(pwu_outside_free(carrier->outside), PWU_WRONG_THREAD);
  return NULL;
}

static void wrong_uses(void) {
  struct stage stage;
  struct carrier stray;
  pwu_error *error = NULL;
  pwu_outside_ops ops = table();
  pwu_str no_peer = {NULL, 0};
  pthread_t thread;
  size_t size;
  stage_open(&stage);
  carrier_init(&stray, NULL);
  EXPECT(pwu_outside_buffer(NULL, &size) == NULL);
  EXPECT(pwu_outside_buffer(stage.client.outside, NULL) == NULL);
  EXPECT_INT(pwu_outside_filled(NULL, 1), PWU_NULL);
  EXPECT_INT(pwu_outside_ended(NULL, 0), PWU_NULL);
  EXPECT_INT(pwu_outside_drained(NULL), PWU_NULL);
  EXPECT_INT(pwu_outside_free(NULL), PWU_NULL);
  EXPECT(pwu_outside_of(NULL) == NULL);
  EXPECT_INT(pwu_server_fd(stage.served), PWU_CLOSED);
  EXPECT_INT(strlen(pwu_server_url(stage.served)), 0);
  EXPECT(pwu_accept_outside(stage.pair.worker, NULL, &ops, &stray, no_peer, &error) == NULL);
  EXPECT_INT(stray.frees, 1);
  pwu_error_free(error);
  EXPECT(pwu_accept_outside(NULL, stage.served, &ops, &stray, no_peer, NULL) == NULL);
  EXPECT_INT(stray.frees, 2);
  EXPECT(pwu_accept_outside(stage.pair.worker, stage.served, NULL, &stray, no_peer, NULL) == NULL);
  EXPECT_INT(stray.frees, 2);
  ops.write = NULL;
  EXPECT(pwu_accept_outside(stage.pair.worker, stage.served, &ops, &stray, no_peer, &error) == NULL);
  EXPECT(strstr(pwu_error_text(error), "write") != NULL);
  EXPECT_INT(stray.frees, 3);
  pwu_error_free(error);
  EXPECT_INT(pthread_create(&thread, NULL, elsewhere, &stage.client), 0);
  EXPECT_INT(pthread_join(thread, NULL), 0);
  EXPECT_INT(pwu_abort(stage.pair.at_client.conn), PWU_OK);
  EXPECT_INT(pwu_abort(stage.pair.at_server.conn), PWU_OK);
  settle(&stage);
  free(stray.bytes);
  stage_close(&stage);
}

int main(void) {
  echoes();
  holds();
  freed();
  wrong_uses();
  return 0;
}
