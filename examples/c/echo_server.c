/* Echoes every message, in a loop of the library's own; Ctrl-C ends it with CLOSE 1001.
 *
 * cc echo_server.c $(pkg-config --cflags --libs picows-uring) -pthread -o echo_server
 * ./echo_server 9001 */
#include <picows_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

static sigset_t signals;

/* Waits for a signal in a thread of its own, where it may call what it likes. */
static void *stop_on_signal(void *worker) {
  int number;
  sigwait(&signals, &number);
  pwu_worker_stop((pwu_worker *)worker, 1000);
  return NULL;
}

static int on_frame(void *user, pwu_conn *conn, const pwu_frame *frame) {
  (void)user;
  if (frame->type == PWU_TEXT || frame->type == PWU_BINARY || frame->type == PWU_CONTINUATION) {
    /* A large payload is not copied. */
    pwu_forward(conn, frame);
  }
  return 0;
}

static int route(void *user, const pwu_request *request, pwu_answer *answer) {
  static pwu_callbacks callbacks;
  (void)user;
  (void)request;
  callbacks.size = sizeof callbacks;
  callbacks.on_frame = on_frame;
  answer->callbacks = &callbacks;
  return 0;
}

int main(int count, char **arguments) {
  char address[64];
  pthread_t waiter;
  pwu_error *error = NULL;
  pwu_server *server;
  pwu_worker *worker;
  pwu_status status;

  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  snprintf(address, sizeof address, "127.0.0.1:%s", count > 1 ? arguments[1] : "9001");

  worker = pwu_worker_new(NULL, &error);
  server = worker ? pwu_listen(worker, address, -1, NULL, route, NULL, NULL, &error) : NULL;
  if (server == NULL || pthread_create(&waiter, NULL, stop_on_signal, worker) != 0) {
    fprintf(stderr, "%s\n", pwu_error_text(error));
    return 1;
  }
  printf("listening on %s\n", pwu_server_url(server));
  fflush(stdout);
  status = pwu_worker_run(worker);
  if (status != PWU_OK) {
    fprintf(stderr, "%s\n", pwu_last_error());
  }
  pwu_server_close(server);
  pwu_worker_free(worker);
  return status == PWU_OK ? 0 : 1;
}
