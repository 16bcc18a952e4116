/* Sends numbered messages, each when the one before has come back.
 *
 * cc echo_client.c $(pkg-config --cflags --libs picows-uring) -o echo_client
 * ./echo_client ws://127.0.0.1:9001/ 10 */
#include <picows_uring.h>
#include <stdlib.h>

#include "dial.h"

struct client {
  pwu_worker *worker;
  int sent, count, has_failed;
};

static void send_next(struct client *client, pwu_conn *conn) {
  char text[32];
  if (client->sent == client->count) {
    pwu_send_close(conn, 1000, NULL, 0);
    return;
  }
  snprintf(text, sizeof text, "message %d", client->sent++);
  pwu_send(conn, PWU_TEXT, text, strlen(text));
}

static int on_connected(void *user, pwu_conn *conn) {
  send_next((struct client *)user, conn);
  return 0;
}

static int on_frame(void *user, pwu_conn *conn, const pwu_frame *frame) {
  if (frame->type == PWU_TEXT) {
    printf("%.*s\n", (int)frame->size, (const char *)frame->payload);
    send_next((struct client *)user, conn);
  }
  return 0;
}

static void on_disconnected(void *user, pwu_conn *conn) {
  (void)conn;
  /* Ends pwu_worker_run below. */
  pwu_worker_stop(((struct client *)user)->worker, 0);
}

static void on_outcome(void *user, pwu_conn *conn, const pwu_error *error) {
  struct client *client = (struct client *)user;
  if (conn == NULL) {
    fprintf(stderr, "%s\n", pwu_error_text(error));
    client->has_failed = 1;
    pwu_worker_stop(client->worker, 0);
  }
}

int main(int count, char **arguments) {
  const char *url = count > 1 ? arguments[1] : "ws://127.0.0.1:9001/";
  struct client client = {NULL, 0, 10, 0};
  pwu_callbacks callbacks = {0};
  pwu_error *error = NULL;
  pwu_attempt *attempt;
  int fd = dial(url);
  if (fd < 0) {
    return 1;
  }
  client.count = count > 2 ? atoi(arguments[2]) : 10;
  client.worker = pwu_worker_new(NULL, &error);
  callbacks.size = sizeof callbacks;
  callbacks.on_connected = on_connected;
  callbacks.on_frame = on_frame;
  callbacks.on_disconnected = on_disconnected;
  attempt = client.worker ? pwu_connect(client.worker, url, fd, NULL, 0, NULL, &callbacks, &client,
                                        on_outcome, &error)
                          : NULL;
  if (attempt == NULL) {
    fprintf(stderr, "%s\n", pwu_error_text(error));
    pwu_error_free(error);
    return 1;
  }
  pwu_attempt_free(attempt);
  if (pwu_worker_run(client.worker) != PWU_OK) {
    fprintf(stderr, "%s\n", pwu_last_error());
    client.has_failed = 1;
  }
  pwu_worker_free(client.worker);
  return client.has_failed;
}
