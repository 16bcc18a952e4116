/* Workers: loops, stops, hooks, calls inside of turns, older and newer structures. */
#include <errno.h>
#include <signal.h>

#include "pair.h"

static void *stops(void *user) {
  EXPECT_INT(pwu_worker_stop((pwu_worker *)user, 5000), PWU_OK);
  return NULL;
}

/* Stopped by another thread while it waits: both ends have their CLOSE 1001. */
static void runs_until_stopped(void) {
  struct pair pair;
  pthread_t thread;
  pwu_close_info info;
  pair_init(&pair, NULL);
  pair_open(&pair, NULL);
  EXPECT_INT(pthread_create(&thread, NULL, stops, pair.worker), 0);
  EXPECT_INT(pwu_worker_run(pair.worker), PWU_OK);
  EXPECT_INT(pthread_join(thread, NULL), 0);
  EXPECT_INT(pair.at_client.disconnected, 1);
  EXPECT_INT(pair.at_server.disconnected, 1);
  info.size = sizeof info;
  EXPECT_INT(pwu_get_close_info(pair.at_client.conn, &info), PWU_OK);
  EXPECT_INT(info.sent_code, 1001);
  EXPECT_INT(pwu_worker_turn(pair.worker, 0), PWU_DONE);
  pair_free(&pair);
}

static pwu_worker *inside;
static int refused;

static int tries(void *user, pwu_conn *conn, const pwu_frame *frame) {
  (void)user;
  if (frame->type == PWU_CLOSE) {
    return 0;
  }
  EXPECT_INT(pwu_worker_turn(inside, 0), PWU_INSIDE_TURN);
  EXPECT_INT(pwu_worker_run(inside), PWU_INSIDE_TURN);
  EXPECT_INT(pwu_worker_free(inside), PWU_INSIDE_TURN);
  EXPECT(strstr(pwu_last_error(), "return") != NULL);
  EXPECT_INT(pwu_worker_flush(inside), PWU_OK);
  EXPECT(pwu_listen(inside, "127.0.0.1:0", -1, NULL, end_route, NULL, NULL, NULL) == NULL);
  refused++;
  EXPECT_INT(pwu_worker_stop(inside, 5000), PWU_OK);
  EXPECT(pwu_send(conn, PWU_TEXT, "last", 4) == PWU_OK);
  return 0;
}

/* Stopped by a callback, which tries what it must not. */
static void stopped_by_a_callback(void) {
  struct pair pair;
  pair_init(&pair, NULL);
  inside = pair.worker;
  pair.at_server.callbacks.on_frame = tries;
  pair_open(&pair, NULL);
  EXPECT_INT(pwu_send(pair.at_client.conn, PWU_TEXT, "stop", 4), PWU_OK);
  EXPECT_INT(pwu_worker_run(pair.worker), PWU_OK);
  EXPECT_INT(refused, 1);
  EXPECT(strcmp(pair.at_client.last, "last") == 0);
  pair_free(&pair);
}

static void on_alarm(int number) { (void)number; }

static void *interrupts(void *user) {
  /* The thread may not wait yet, and a signal that comes before is seen by the handler alone. */
  pthread_t *waiter = (pthread_t *)user;
  int *is_over = (int *)(waiter + 1);
  while (!__atomic_load_n(is_over, __ATOMIC_ACQUIRE)) {
    EXPECT_INT(pthread_kill(*waiter, SIGUSR1), 0);
    sched_yield();
  }
  return NULL;
}

static void run_is_interrupted(void) {
  struct {
    pthread_t waiter;
    int is_over;
  } shared;
  pthread_t thread;
  struct sigaction action;
  pwu_worker *worker = new_worker();
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  EXPECT_INT(sigaction(SIGUSR1, &action, NULL), 0);
  shared.waiter = pthread_self();
  shared.is_over = 0;
  EXPECT_INT(pthread_create(&thread, NULL, interrupts, &shared), 0);
  EXPECT_INT(pwu_worker_run(worker), PWU_INTERRUPTED);
  __atomic_store_n(&shared.is_over, 1, __ATOMIC_RELEASE);
  EXPECT_INT(pthread_join(thread, NULL), 0);
  EXPECT_INT(pwu_worker_stop(worker, 0), PWU_OK);
  while (pwu_worker_run(worker) == PWU_INTERRUPTED) {
  }
  EXPECT_INT(pwu_worker_free(worker), PWU_OK);
}

static int hooks, hook_frees;
static pwu_worker *hooked;

static void hook(void *user) {
  (void)user;
  hooks++;
  EXPECT_INT(pwu_worker_turn(hooked, 0), PWU_INSIDE_TURN);
  EXPECT_INT(pwu_worker_free(hooked), PWU_INSIDE_TURN);
}

static void hook_freed(void *user) {
  (void)user;
  hook_frees++;
}

/* The hook is called once for what is sent between two turns. */
static void hook_of_work(void) {
  struct pair pair;
  pair_init(&pair, NULL);
  pair_open(&pair, NULL);
  hooked = pair.worker;
  EXPECT_INT(pwu_worker_on_work(pair.worker, hook, NULL, hook_freed), PWU_OK);
  EXPECT_INT(pwu_worker_on_work(pair.worker, hook, NULL, hook_freed), PWU_OK);
  EXPECT_INT(hook_frees, 1);
  while (pwu_worker_turn(pair.worker, 0) == PWU_BUSY) {
  }
  hooks = 0;
  EXPECT_INT(pwu_send(pair.at_client.conn, PWU_TEXT, "1", 1), PWU_OK);
  EXPECT_INT(pwu_send(pair.at_client.conn, PWU_TEXT, "2", 1), PWU_OK);
  EXPECT_INT(hooks, 1);
  turn_until_count(pair.worker, &pair.at_server.frames, 2);
  pair_free(&pair);
  EXPECT_INT(hook_frees, 2);
}

static void second_worker(void) {
  pwu_error *error = NULL;
  pwu_worker *worker = new_worker();
  EXPECT(pwu_worker_new(NULL, &error) == NULL);
  EXPECT_INT(pwu_error_kind(error), PWU_ERROR_SECOND_WORKER);
  EXPECT(strcmp(pwu_error_text(error), pwu_last_error()) == 0);
  pwu_error_free(error);
  EXPECT_INT(pwu_worker_free(worker), PWU_OK);
}

/* Structures of an older and of a newer library. */
static void structures(void) {
  struct {
    pwu_worker_options known;
    uint64_t newer;
  } options;
  struct end end;
  pwu_error *error = NULL;
  pwu_worker *worker;
  pwu_options older;
  memset(&options, 0, sizeof options);
  options.known.size = sizeof options;
  worker = pwu_worker_new(&options.known, &error);
  EXPECT(worker != NULL);
  EXPECT_INT(pwu_worker_free(worker), PWU_OK);
  options.newer = 1;
  EXPECT(pwu_worker_new(&options.known, &error) == NULL);
  EXPECT(strstr(pwu_error_text(error), "update") != NULL);
  pwu_error_free(error);
  options.known.size = 0;
  EXPECT(pwu_worker_new(&options.known, &error) == NULL);
  EXPECT(strstr(pwu_error_text(error), "sizeof") != NULL);
  pwu_error_free(error);
  options.known.size = sizeof options.known;
  options.known.driver = 3;
  EXPECT(pwu_worker_new(&options.known, &error) == NULL);
  pwu_error_free(error);
  /* With nothing but its size, it has the defaults. */
  options.known.size = sizeof(size_t);
  worker = pwu_worker_new(&options.known, &error);
  EXPECT(worker != NULL);

  /* What lies past the size of an older structure stays as it is, and counts as the default. */
  memset(&older, 0xff, sizeof older);
  EXPECT_INT(pwu_options_init(&older, offsetof(pwu_options, close_ms), 0), PWU_OK);
  EXPECT_INT(older.size, offsetof(pwu_options, close_ms));
  EXPECT_INT(older.handshake_ms, 5000);
  EXPECT_INT(older.close_ms, 0xffffffffu);
  end_init(&end);
  end.callbacks.size = offsetof(pwu_callbacks, free_user);
  EXPECT(pwu_connect(worker, "ftp://a/", -1, NULL, 0, &older, &end.callbacks, &end, NULL,
                     &error) == NULL);
  EXPECT_INT(pwu_error_kind(error), PWU_ERROR_URL);
  pwu_error_free(error);
  EXPECT_INT(end.freed, 0);
  older.size = sizeof older;
  EXPECT(pwu_connect(worker, "ws://a/", -1, NULL, 0, &older, &end.callbacks, &end, NULL,
                     &error) == NULL);
  EXPECT(strstr(pwu_error_text(error), "queue_policy") != NULL);
  pwu_error_free(error);
  EXPECT_INT(pwu_worker_free(worker), PWU_OK);
}

/* Descriptors of this process that are rings of io_uring. */
static int rings(void) {
  char path[64], target[64];
  int fd, count = 0;
  for (fd = 0; fd < 256; fd++) {
    ssize_t size;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    size = readlink(path, target, sizeof target - 1);
    if (size > 0) {
      target[size] = '\0';
      count += strstr(target, "io_uring") != NULL;
    }
  }
  return count;
}

static void drivers(void) {
  pwu_worker_options options;
  pwu_error *error = NULL;
  pwu_worker *worker;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.driver = PWU_DRIVER_EPOLL;
  worker = pwu_worker_new(&options, &error);
  EXPECT(worker != NULL);
  EXPECT_INT(rings(), 0);
  EXPECT(pwu_worker_turn(worker, 0) >= 0);
  EXPECT_INT(pwu_worker_free(worker), PWU_OK);
  /* By name, there is no other way than that. */
  options.driver = PWU_DRIVER_IO_URING;
  worker = pwu_worker_new(&options, &error);
  if (worker == NULL) {
    EXPECT_INT(pwu_error_kind(error), PWU_ERROR_DRIVER);
    pwu_error_free(error);
    return;
  }
  EXPECT_INT(rings(), 1);
  EXPECT_INT(pwu_worker_free(worker), PWU_OK);
}

/* Two listening sockets of one worker, each with options of its own. */
static void options_of_listeners(void) {
  struct pair pair;
  pwu_options options;
  pwu_server *strict;
  pwu_attempt *attempt;
  pwu_close_info info;
  pwu_error *error = NULL;
  struct end server;
  pair_init(&pair, NULL);
  end_init(&server);
  EXPECT_INT(pwu_options_init(&options, sizeof options, 1), PWU_OK);
  options.max_frame = 10;
  strict = pwu_listen(pair.worker, "127.0.0.1:0", -1, &options, end_route, &server, NULL, &error);
  EXPECT(strict != NULL);
  pair_open(&pair, NULL);
  pair.at_server.answers = 1;
  EXPECT_INT(pwu_send(pair.at_client.conn, PWU_TEXT, "more than ten", 13), PWU_OK);
  turn_until_count(pair.worker, &pair.at_client.frames, 1);
  EXPECT_INT(pwu_disconnect(pair.at_client.conn), PWU_OK);
  turn_until_count(pair.worker, &pair.at_client.freed, 1);
  EXPECT_INT(pwu_conn_unref(pair.at_client.conn), PWU_OK);
  end_init(&pair.at_client);
  attempt = pwu_connect(pair.worker, "ws://a/", dial(pwu_server_url(strict)), NULL, 0, NULL,
                        &pair.at_client.callbacks, &pair.at_client, end_outcome, NULL);
  EXPECT_INT(pwu_attempt_free(attempt), PWU_OK);
  turn_until_count(pair.worker, &pair.at_client.outcomes, 1);
  EXPECT_INT(pwu_send(pair.at_client.conn, PWU_TEXT, "more than ten", 13), PWU_OK);
  turn_until_count(pair.worker, &server.freed, 1);
  turn_until_count(pair.worker, &pair.at_client.freed, 1);
  EXPECT_INT(server.frames, 0);
  info.size = sizeof info;
  EXPECT_INT(pwu_get_close_info(pair.at_client.conn, &info), PWU_OK);
  EXPECT_INT(info.received_code, 1009);
  EXPECT_INT(pwu_conn_unref(server.conn), PWU_OK);
  EXPECT_INT(pwu_server_close(strict), PWU_OK);
  pair_free(&pair);
}

static void sends_at_the_end(void *user, pwu_conn *conn) {
  struct end *end = (struct end *)user;
  EXPECT_INT(pwu_send(conn, PWU_TEXT, "late", 4), PWU_CLOSED);
  EXPECT_INT(pwu_worker_free(inside), PWU_INSIDE_TURN);
  EXPECT_INT(pwu_worker_turn(inside, 0), PWU_CLOSED);
  end->disconnected++;
}

/* Freed with open connections: each end is told, and what it does then is refused. */
static void freed_with_open_connections(void) {
  struct pair pair;
  pair_init(&pair, NULL);
  pair.at_client.callbacks.on_disconnected = sends_at_the_end;
  inside = pair.worker;
  pair_open(&pair, NULL);
  pair_free(&pair);
  EXPECT_INT(pair.at_client.freed, 1);
  EXPECT_INT(pair.at_server.freed, 1);
}

static int lines;

static void log_line(void *user, int level, pwu_str line) {
  static const char expected[] = "pwu_worker_free has freed nothing reason=";
  if (level == PWU_LOG_ERROR && line.size > sizeof expected &&
      memcmp(line.data, expected, sizeof expected - 1) == 0) {
    ++*(int *)user;
  }
}

static void *frees(void *worker) {
  EXPECT_INT(pwu_worker_free((pwu_worker *)worker), PWU_WRONG_THREAD);
  return NULL;
}

/* A worker that is freed elsewhere stays, and the log says so. */
static void freed_on_another_thread(void) {
  pthread_t thread;
  pwu_worker *worker = new_worker();
  EXPECT_INT(pwu_set_log(PWU_LOG_WARN, NULL, NULL), PWU_NULL);
  EXPECT_INT(pwu_set_log(0, log_line, &lines), PWU_INVALID);
  EXPECT_INT(pwu_set_log(PWU_LOG_WARN, log_line, &lines), PWU_OK);
  EXPECT_INT(pwu_set_log(PWU_LOG_WARN, log_line, &lines), PWU_INVALID);
  EXPECT_INT(pthread_create(&thread, NULL, frees, worker), 0);
  EXPECT_INT(pthread_join(thread, NULL), 0);
  EXPECT_INT(lines, 1);
  EXPECT(pwu_worker_turn(worker, 0) >= 0);
  EXPECT_INT(pwu_worker_free(worker), PWU_OK);
}

int main(void) {
  freed_on_another_thread();
  runs_until_stopped();
  stopped_by_a_callback();
  run_is_interrupted();
  hook_of_work();
  second_worker();
  structures();
  drivers();
  options_of_listeners();
  freed_with_open_connections();
  return 0;
}
