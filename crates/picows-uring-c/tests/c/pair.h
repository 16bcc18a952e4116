/* A server and a client of one worker, whose callbacks the test chooses. */
#ifndef PAIR_H
#define PAIR_H

#include "check.h"

/* One end, and what its callbacks were called with. */
struct end {
  pwu_callbacks callbacks;
  pwu_conn *conn; /* kept from on_connected on */
  int connected, frames, disconnected, pauses, resumes, freed;
  int connected_returns, frame_returns;
  int answers;    /* of on_frame, by forwarding */
  int outcomes;
  char last[64];
  size_t last_size;
  int last_type;
  char refusal[512];
  int refusal_kind, refusal_status;
};

static int end_connected(void *user, pwu_conn *conn) {
  struct end *end = (struct end *)user;
  end->connected++;
  end->conn = conn;
  EXPECT_INT(pwu_conn_ref(conn), PWU_OK);
  return end->connected_returns;
}

static int end_frame(void *user, pwu_conn *conn, const pwu_frame *frame) {
  struct end *end = (struct end *)user;
  if (frame->type == PWU_CLOSE) {
    return 0;
  }
  end->frames++;
  end->last_type = frame->type;
  end->last_size = frame->size;
  memset(end->last, 0, sizeof end->last);
  memcpy(end->last, frame->payload,
         frame->size < sizeof end->last - 1 ? frame->size : sizeof end->last - 1);
  if (end->answers && frame->type != PWU_PONG) {
    EXPECT(pwu_forward(conn, frame) >= 0);
  }
  return end->frame_returns;
}

static void end_disconnected(void *user, pwu_conn *conn) {
  struct end *end = (struct end *)user;
  EXPECT(end->conn == conn);
  EXPECT_INT(end->freed, end->disconnected);
  end->disconnected++;
}

static void end_paused(void *user, pwu_conn *conn) {
  (void)conn;
  ((struct end *)user)->pauses++;
}

static void end_resumed(void *user, pwu_conn *conn) {
  (void)conn;
  ((struct end *)user)->resumes++;
}

static void end_freed(void *user) { ((struct end *)user)->freed++; }

static void end_outcome(void *user, pwu_conn *conn, const pwu_error *error) {
  struct end *end = (struct end *)user;
  EXPECT((conn != NULL) != (error != NULL));
  end->outcomes++;
  if (error != NULL) {
    snprintf(end->refusal, sizeof end->refusal, "%s", pwu_error_text(error));
    end->refusal_kind = pwu_error_kind(error);
    end->refusal_status = pwu_error_response(error, NULL, NULL);
  }
}

static inline void end_init(struct end *end) {
  memset(end, 0, sizeof *end);
  end->callbacks.size = sizeof end->callbacks;
  end->callbacks.on_connected = end_connected;
  end->callbacks.on_frame = end_frame;
  end->callbacks.on_disconnected = end_disconnected;
  end->callbacks.pause_writing = end_paused;
  end->callbacks.resume_writing = end_resumed;
  end->callbacks.free_user = end_freed;
}

/* Accepts with the end that is its user. */
static int end_route(void *user, const pwu_request *request, pwu_answer *answer) {
  (void)request;
  answer->callbacks = &((struct end *)user)->callbacks;
  answer->user = user;
  return 0;
}

struct pair {
  pwu_worker *worker;
  pwu_server *server;
  const char *url; /* that the client connects to, on the server's address */
  struct end at_server, at_client;
};

static inline pwu_attempt *pair_connect(struct pair *pair, const pwu_options *options,
                                        pwu_error **error) {
  return pwu_connect(pair->worker, pair->url, dial(pwu_server_url(pair->server)), NULL, 0,
                     options, &pair->at_client.callbacks, &pair->at_client, end_outcome, error);
}

/* Takes turns until `*count` is `expected`. */
static inline void turn_until_count(pwu_worker *worker, const int *count, int expected) {
  struct pollfd watched;
  watched.fd = pwu_worker_fd(worker);
  watched.events = POLLIN;
  for (;;) {
    int turned = pwu_worker_turn(worker, 0);
    EXPECT(turned >= 0);
    if (*count >= expected) {
      EXPECT_INT(*count, expected);
      return;
    }
    EXPECT(turned != PWU_DONE);
    EXPECT(poll(&watched, 1, turned == PWU_BUSY ? 0 : 20000) >= (turned == PWU_BUSY ? 0 : 1));
  }
}

/* Both ends, not yet connected. */
static inline void pair_init(struct pair *pair, const pwu_options *options) {
  pwu_error *error = NULL;
  end_init(&pair->at_server);
  end_init(&pair->at_client);
  pair->url = "ws://localhost/";
  pair->worker = new_worker();
  pair->server = pwu_listen(pair->worker, "127.0.0.1:0", -1, options, end_route,
                            &pair->at_server, NULL, &error);
  if (pair->server == NULL) {
    fprintf(stderr, "%s\n", pwu_error_text(error));
    abort();
  }
}

static inline void pair_open(struct pair *pair, const pwu_options *client_options) {
  pwu_error *error = NULL;
  pwu_attempt *attempt = pair_connect(pair, client_options, &error);
  EXPECT(attempt != NULL);
  EXPECT_INT(pwu_attempt_free(attempt), PWU_OK);
  turn_until_count(pair->worker, &pair->at_client.outcomes, 1);
  turn_until_count(pair->worker, &pair->at_server.connected, 1);
}

static inline void pair_free(struct pair *pair) {
  if (pair->at_client.conn != NULL) {
    EXPECT_INT(pwu_conn_unref(pair->at_client.conn), PWU_OK);
  }
  if (pair->at_server.conn != NULL) {
    EXPECT_INT(pwu_conn_unref(pair->at_server.conn), PWU_OK);
  }
  EXPECT_INT(pwu_server_close(pair->server), PWU_OK);
  EXPECT_INT(pwu_worker_free(pair->worker), PWU_OK);
  EXPECT_INT(pair->at_client.disconnected, pair->at_client.connected);
  EXPECT_INT(pair->at_server.disconnected, pair->at_server.connected);
}

#endif
