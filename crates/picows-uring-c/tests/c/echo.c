/* A client and a server of one worker: an echo, the close handshake, and every user freed once. */
#include "check.h"

struct client {
  int frames, connected, disconnected, outcomes, freed;
};

static int server_users, server_frees, route_frees;
static int is_over;

static int server_frame(void *user, pwu_conn *conn, const pwu_frame *frame) {
  (void)user;
  if (frame->type == PWU_TEXT || frame->type == PWU_BINARY) {
    EXPECT(pwu_forward(conn, frame) >= 0);
  }
  return 0;
}

static void server_free(void *user) {
  free(user);
  server_frees++;
}

static int route(void *user, const pwu_request *request, pwu_answer *answer) {
  static pwu_callbacks callbacks;
  (void)user;
  EXPECT(is_text(request->method, "GET"));
  EXPECT(is_text(request->target, "/chat"));
  EXPECT(request->count >= 5);
  EXPECT(request->raw_head.size > 100);
  callbacks.size = sizeof callbacks;
  callbacks.on_frame = server_frame;
  callbacks.free_user = server_free;
  answer->callbacks = &callbacks;
  answer->user = malloc(1);
  server_users++;
  return 0;
}

static void route_free(void *user) {
  (void)user;
  route_frees++;
}

static int on_connected(void *user, pwu_conn *conn) {
  pwu_response response;
  ((struct client *)user)->connected++;
  response.size = sizeof response;
  EXPECT_INT(pwu_get_response(conn, &response), PWU_OK);
  EXPECT_INT(response.status, 101);
  EXPECT(memcmp(response.raw_head.data, "HTTP/1.1 101", 12) == 0);
  EXPECT_INT(pwu_send(conn, PWU_TEXT, "hello", 5), PWU_QUEUED);
  return 0;
}

static int on_frame(void *user, pwu_conn *conn, const pwu_frame *frame) {
  struct client *client = (struct client *)user;
  if (frame->type == PWU_TEXT) {
    client->frames++;
    EXPECT_INT(frame->size, 5);
    EXPECT(memcmp(frame->payload, "hello", 5) == 0);
    EXPECT_INT(pwu_send_close(conn, 1000, "bye", 3), PWU_OK);
    EXPECT_INT(pwu_send(conn, PWU_TEXT, "late", 4), PWU_CLOSED);
  }
  return 0;
}

static void on_disconnected(void *user, pwu_conn *conn) {
  pwu_close_info info;
  ((struct client *)user)->disconnected++;
  info.size = sizeof info;
  EXPECT_INT(pwu_get_close_info(conn, &info), PWU_OK);
  EXPECT(info.is_sent && info.is_received && !info.received_first);
  EXPECT_INT(info.sent_code, 1000);
  EXPECT(is_text(info.sent_reason, "bye"));
  EXPECT_INT(info.cause, PWU_CAUSE_CLOSED);
}

static void free_client(void *user) {
  ((struct client *)user)->freed++;
  is_over = 1;
}

static void outcome(void *user, pwu_conn *conn, const pwu_error *error) {
  struct client *client = (struct client *)user;
  EXPECT(conn != NULL && error == NULL);
  EXPECT_INT(client->connected, 1);
  client->outcomes++;
}

int main(void) {
  struct client client;
  pwu_callbacks callbacks;
  pwu_error *error = NULL;
  pwu_worker *worker = new_worker();
  pwu_server *server =
      pwu_listen(worker, "127.0.0.1:0", -1, NULL, route, NULL, route_free, &error);
  pwu_attempt *attempt;
  EXPECT(server != NULL && error == NULL);
  EXPECT(pwu_server_fd(server) >= 0);

  memset(&client, 0, sizeof client);
  memset(&callbacks, 0, sizeof callbacks);
  callbacks.size = sizeof callbacks;
  callbacks.on_connected = on_connected;
  callbacks.on_frame = on_frame;
  callbacks.on_disconnected = on_disconnected;
  callbacks.free_user = free_client;
  attempt = pwu_connect(worker, "ws://localhost/chat", dial(pwu_server_url(server)), NULL, 0,
                        NULL, &callbacks, &client, outcome, &error);
  EXPECT(attempt != NULL && error == NULL);
  EXPECT_INT(pwu_attempt_free(attempt), PWU_OK);

  turn_until(worker, &is_over);
  EXPECT_INT(client.connected, 1);
  EXPECT_INT(client.outcomes, 1);
  EXPECT_INT(client.frames, 1);
  EXPECT_INT(client.disconnected, 1);
  EXPECT_INT(client.freed, 1);
  EXPECT_INT(pwu_server_close(server), PWU_OK);
  EXPECT_INT(pwu_worker_free(worker), PWU_OK);
  EXPECT_INT(server_frees, server_users);
  EXPECT_INT(route_frees, 1);
  return 0;
}
