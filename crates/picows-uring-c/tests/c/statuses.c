/* Every function with NULL, on another thread, in a child of fork and after the worker was freed. */
#include <sys/wait.h>

#include "pair.h"

static struct pair pair;
static pwu_remote *remote;
static pwu_attempt *attempt;
static pwu_frame frame;
static struct end silent;

/* What functions that return a number or a status return for one connection. */
static void expect_conn(pwu_conn *conn, int status, int of_queries) {
  pwu_close_info info;
  pwu_request request;
  pwu_response response;
  uint8_t buffer[PWU_HEADROOM + 1];
  info.size = sizeof info;
  request.size = sizeof request;
  response.size = sizeof response;
  EXPECT_INT(pwu_send(conn, PWU_TEXT, "a", 1), status);
  EXPECT_INT(pwu_send_frame(conn, PWU_TEXT, 1, 0, "a", 1), status);
  EXPECT_INT(pwu_send_headroom(conn, PWU_TEXT, 1, 0, buffer + PWU_HEADROOM, 1), status);
  EXPECT_INT(pwu_send_owned(conn, PWU_TEXT, 1, 0, "a", 1, NULL, NULL), status);
  EXPECT_INT(pwu_send_latest(conn, 1, PWU_TEXT, "a", 1), status);
  EXPECT_INT(pwu_send_close(conn, 1000, "", 0), status);
  EXPECT_INT(pwu_send_auto_ping(conn), status);
  EXPECT_INT(pwu_forward(conn, &frame), status);
  EXPECT_INT(pwu_disconnect(conn), status);
  EXPECT_INT(pwu_abort(conn), status);
  EXPECT_INT(pwu_pong_received(conn), status);
  EXPECT_INT(pwu_pause_reading(conn, 0), status);
  EXPECT_INT(pwu_set_watermarks(conn, 2, 1), status);
  EXPECT_INT(pwu_take_pause(conn), status);
  EXPECT_INT(pwu_socket(conn), status);
  EXPECT_INT(pwu_set_close_reason(conn, "", 0), of_queries);
  EXPECT_INT(pwu_buffered(conn), of_queries);
  EXPECT_INT(pwu_get_close_info(conn, &info), of_queries);
  EXPECT_INT(pwu_get_request(conn, &request), of_queries);
  EXPECT_INT(pwu_get_response(conn, &response), of_queries);
  EXPECT(pwu_remote_new(conn) == NULL);
  if (of_queries == PWU_OK) {
    EXPECT_INT(pwu_is_disconnected(conn), 1);
    EXPECT_INT(pwu_conn_ref(conn), PWU_OK);
    EXPECT_INT(pwu_conn_unref(conn), PWU_OK);
  } else {
    EXPECT_INT(pwu_is_disconnected(conn), of_queries);
    EXPECT_INT(pwu_is_auto_pong(conn, &frame), of_queries);
    EXPECT_INT(pwu_conn_ref(conn), of_queries);
    EXPECT_INT(pwu_conn_unref(conn), of_queries);
  }
}

static void expect_worker(pwu_worker *worker, int status) {
  pwu_error *error = NULL;
  struct end end;
  end_init(&end);
  EXPECT_INT(pwu_worker_fd(worker), status);
  EXPECT_INT(pwu_worker_turn(worker, 0), status);
  EXPECT_INT(pwu_worker_run(worker), status);
  EXPECT_INT(pwu_worker_flush(worker), status);
  EXPECT_INT(pwu_worker_on_work(worker, end_freed, &end, end_freed), status);
  EXPECT_INT(end.freed, 1);
  EXPECT(pwu_listen(worker, "127.0.0.1:0", -1, NULL, end_route, &end, end_freed, &error) == NULL);
  EXPECT_INT(pwu_error_kind(error), PWU_ERROR_CALL);
  EXPECT_INT(end.freed, 2);
  pwu_error_free(error);
  EXPECT(pwu_connect(worker, "ws://a/", dup(0), NULL, 0, NULL, &end.callbacks, &end, end_outcome,
                     &error) == NULL);
  EXPECT(strlen(pwu_error_text(error)) > 10);
  EXPECT_INT(end.freed, 3);
  EXPECT_INT(end.outcomes, 0);
  pwu_error_free(error);
}

static void expect_others(int status) {
  EXPECT_INT(pwu_server_fd(pair.server), status);
  EXPECT(pwu_server_url(pair.server) == NULL);
  EXPECT_INT(pwu_server_close(pair.server), status);
  EXPECT_INT(pwu_attempt_free(attempt), status);
  EXPECT_INT(pwu_attempt_abandon(attempt), status);
}

static void *elsewhere(void *unused) {
  (void)unused;
  expect_conn(pair.at_client.conn, PWU_WRONG_THREAD, PWU_WRONG_THREAD);
  EXPECT(strstr(pwu_last_error(), "thread") != NULL);
  expect_worker(pair.worker, PWU_WRONG_THREAD);
  EXPECT_INT(pwu_worker_free(pair.worker), PWU_WRONG_THREAD);
  expect_others(PWU_WRONG_THREAD);
  /* Any thread. */
  EXPECT_INT(pwu_remote_send(remote, PWU_TEXT, "from afar", 9), PWU_OK);
  EXPECT_INT(pwu_remote_send(remote, PWU_CLOSE, "", 0), PWU_REFUSED);
  EXPECT_INT(pwu_remote_send(remote, 4, "", 0), PWU_INVALID);
  return NULL;
}

/* In the child: nothing of the parent can be used, its worker is let go of, and another one works. */
static int child(void) {
  struct pair own;
  expect_conn(pair.at_client.conn, PWU_FORKED, PWU_FORKED);
  EXPECT(strstr(pwu_last_error(), "fork") != NULL);
  expect_worker(pair.worker, PWU_FORKED);
  expect_others(PWU_FORKED);
  EXPECT_INT(pwu_worker_stop(pair.worker, 0), PWU_FORKED);
  EXPECT_INT(pwu_remote_send(remote, PWU_TEXT, "", 0), PWU_FORKED);
  EXPECT(pwu_worker_new(NULL, NULL) == NULL);
  EXPECT_INT(pwu_worker_free(pair.worker), PWU_OK);
  EXPECT_INT(pair.at_client.freed + pair.at_client.disconnected, 0);
  pair_init(&own, NULL);
  pair_open(&own, NULL);
  own.at_server.answers = 1;
  EXPECT_INT(pwu_send(own.at_client.conn, PWU_TEXT, "child", 5), PWU_OK);
  turn_until_count(own.worker, &own.at_client.frames, 1);
  pair_free(&own);
  return 42;
}

int main(void) {
  pthread_t thread;
  int status = 0, silence;
  pid_t pid;
  char noise[64 * 1024];
  memset(&frame, 0, sizeof frame);
  memset(noise, 7, sizeof noise);

  expect_conn(NULL, PWU_NULL, PWU_NULL);
  expect_worker(NULL, PWU_NULL);
  EXPECT_INT(pwu_worker_free(NULL), PWU_NULL);
  EXPECT_INT(pwu_worker_stop(NULL, 0), PWU_NULL);
  EXPECT_INT(pwu_server_fd(NULL), PWU_NULL);
  EXPECT_INT(pwu_server_close(NULL), PWU_NULL);
  EXPECT_INT(pwu_attempt_free(NULL), PWU_NULL);
  EXPECT_INT(pwu_attempt_abandon(NULL), PWU_NULL);
  EXPECT_INT(pwu_remote_send(NULL, PWU_TEXT, "", 0), PWU_NULL);
  EXPECT_INT(pwu_remote_send_latest(NULL, 1, PWU_TEXT, "", 0), PWU_NULL);
  EXPECT_INT(pwu_remote_send_close(NULL, 0, "", 0), PWU_NULL);
  EXPECT_INT(pwu_remote_disconnect(NULL), PWU_NULL);
  EXPECT_INT(pwu_remote_abort(NULL), PWU_NULL);
  EXPECT_INT(pwu_remote_free(NULL), PWU_NULL);
  EXPECT_INT(pwu_options_init(NULL, sizeof(pwu_options), 0), PWU_NULL);
  EXPECT_INT(pwu_error_kind(NULL), PWU_NULL);
  EXPECT_INT(pwu_error_errno(NULL), PWU_NULL);
  EXPECT_INT(pwu_error_response(NULL, NULL, NULL), PWU_NULL);
  EXPECT_INT(strlen(pwu_error_text(NULL)), 0);
  pwu_error_free(NULL);
  EXPECT_INT(pwu_abi_version(), PWU_ABI_VERSION);
  EXPECT_INT(strncmp(pwu_version(), "0.", 2), 0);

  pair_init(&pair, NULL);
  EXPECT(pwu_listen(pair.worker, NULL, -1, NULL, end_route, NULL, NULL, NULL) == NULL);
  EXPECT(pwu_listen(pair.worker, "127.0.0.1:0", -1, NULL, NULL, NULL, NULL, NULL) == NULL);
  EXPECT(pwu_connect(pair.worker, "ws://a/", -1, NULL, 0, NULL, NULL, NULL, NULL, NULL) == NULL);
  pair_open(&pair, NULL);
  end_init(&silent);
  attempt = pwu_connect(pair.worker, "ws://a/", dial_silence(&silence), NULL, 0, NULL,
                        &silent.callbacks, &silent, end_outcome, NULL);
  EXPECT(attempt != NULL);
  remote = pwu_remote_new(pair.at_client.conn);
  EXPECT(remote != NULL);
  EXPECT_INT(pwu_forward(pair.at_client.conn, NULL), PWU_NULL);
  EXPECT_INT(pwu_send_headroom(pair.at_client.conn, PWU_TEXT, 1, 0, NULL, 0), PWU_NULL);
  EXPECT_INT(pwu_get_close_info(pair.at_client.conn, NULL), PWU_NULL);
  EXPECT_INT(pwu_get_request(pair.at_client.conn, NULL), PWU_NULL);
  EXPECT_INT(pwu_is_auto_pong(pair.at_client.conn, NULL), PWU_NULL);
  EXPECT_INT(pwu_worker_on_work(pair.worker, NULL, NULL, NULL), PWU_NULL);
  EXPECT_INT(pwu_forward(pair.at_client.conn, &frame), PWU_INVALID);
  EXPECT_INT(pwu_send(pair.at_client.conn, 4, "", 0), PWU_INVALID);
  EXPECT_INT(pwu_send(pair.at_client.conn, PWU_CLOSE, "", 0), PWU_REFUSED);

  EXPECT_INT(pthread_create(&thread, NULL, elsewhere, NULL), 0);
  EXPECT_INT(pthread_join(thread, NULL), 0);
  turn_until_count(pair.worker, &pair.at_server.frames, 1);
  EXPECT(strcmp(pair.at_server.last, "from afar") == 0);

  /* A live connection with much queued; the parent notices nothing. */
  pair.at_server.answers = 1;
  for (int i = 0; i < 16; i++) {
    EXPECT(pwu_send(pair.at_client.conn, PWU_BINARY, noise, sizeof noise) >= 0);
  }
  pid = fork();
  if (pid == 0) {
    _exit(child());
  }
  EXPECT_INT(waitpid(pid, &status, 0), pid);
  EXPECT(WIFEXITED(status));
  EXPECT_INT(WEXITSTATUS(status), 42);
  turn_until_count(pair.worker, &pair.at_client.frames, 16);
  EXPECT_INT(pair.at_client.last_size, sizeof noise);

  EXPECT_INT(pwu_attempt_abandon(attempt), PWU_OK);
  EXPECT_INT(pwu_worker_free(pair.worker), PWU_OK);
  EXPECT_INT(pair.at_client.disconnected, 1);
  EXPECT_INT(pair.at_client.freed, 1);
  EXPECT_INT(silent.freed, 1);
  EXPECT_INT(silent.outcomes, 0);
  EXPECT_INT(pair.at_server.freed, 1);
  expect_conn(pair.at_client.conn, PWU_CLOSED, PWU_OK);
  EXPECT_INT(pwu_remote_send(remote, PWU_TEXT, "", 0), PWU_CLOSED);
  EXPECT_INT(pwu_server_fd(pair.server), PWU_CLOSED);
  EXPECT_INT(pwu_server_close(pair.server), PWU_OK);
  EXPECT_INT(pwu_conn_unref(pair.at_client.conn), PWU_OK);
  EXPECT_INT(pwu_conn_unref(pair.at_server.conn), PWU_OK);
  EXPECT_INT(pwu_remote_free(remote), PWU_OK);
  close(silence);
  return 0;
}
