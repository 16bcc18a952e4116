/* A connection beside standard input and a timer, in one poll: each line is sent, and what comes is
 * printed. The end of the input closes the connection.
 *
 * cc in_poll.c $(pkg-config --cflags --libs picows-uring) -o in_poll && ./in_poll ws://127.0.0.1:9001/ */
#include <picows_uring.h>
#include <poll.h>

#include "dial.h"

enum { WORKER, INPUT, WATCHED, TICK_MS = 1000 };

static pwu_conn *conn;
static int received;

static int on_frame(void *user, pwu_conn *from, const pwu_frame *frame) {
  (void)user;
  (void)from;
  if (frame->type == PWU_TEXT) {
    received++;
    printf("%.*s\n", (int)frame->size, (const char *)frame->payload);
    fflush(stdout);
  }
  return 0;
}

static void on_disconnected(void *user, pwu_conn *from) {
  pwu_conn_unref(from);
  pwu_worker_stop((pwu_worker *)user, 0);
}

static void on_outcome(void *user, pwu_conn *opened, const pwu_error *error) {
  if (opened == NULL) {
    fprintf(stderr, "%s\n", pwu_error_text(error));
    pwu_worker_stop((pwu_worker *)user, 0);
    return;
  }
  conn = opened;
  pwu_conn_ref(conn);
}

/* Sends the lines of the input; returns 0 at its end. */
static int send_lines(void) {
  char line[4096];
  ssize_t size = read(STDIN_FILENO, line, sizeof line);
  if (size <= 0) {
    pwu_send_close(conn, 1000, NULL, 0);
    return 0;
  }
  pwu_send(conn, PWU_TEXT, line, line[size - 1] == '\n' ? (size_t)size - 1 : (size_t)size);
  return 1;
}

int main(int count, char **arguments) {
  const char *url = count > 1 ? arguments[1] : "ws://127.0.0.1:9001/";
  pwu_error *error = NULL;
  pwu_worker *worker = pwu_worker_new(NULL, &error);
  pwu_callbacks callbacks = {0};
  pwu_attempt *attempt = NULL;
  struct pollfd watched[WATCHED] = {{0, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  int fd = dial(url), turned, ticks = 0;
  callbacks.size = sizeof callbacks;
  callbacks.on_frame = on_frame;
  callbacks.on_disconnected = on_disconnected;
  if (worker != NULL && fd >= 0) {
    attempt =
        pwu_connect(worker, url, fd, NULL, 0, NULL, &callbacks, worker, on_outcome, &error);
  }
  if (attempt == NULL) {
    fprintf(stderr, "%s\n", pwu_error_text(error));
    return 1;
  }
  pwu_attempt_free(attempt);
  watched[WORKER].fd = pwu_worker_fd(worker);
  while ((turned = pwu_worker_turn(worker, 0)) != PWU_DONE && turned >= 0) {
    /* The input waits for the connection. */
    int ready = poll(watched, conn ? WATCHED : INPUT, turned == PWU_BUSY ? 0 : TICK_MS);
    if (ready == 0 && turned == PWU_IDLE) {
      fprintf(stderr, "%d s, %d received\n", ++ticks, received);
    }
    if (ready > 0 && watched[INPUT].revents != 0 && !send_lines()) {
      watched[INPUT].fd = -1;
    }
    watched[INPUT].revents = 0;
  }
  pwu_worker_free(worker);
  return turned == PWU_DONE && conn != NULL ? 0 : 1;
}
