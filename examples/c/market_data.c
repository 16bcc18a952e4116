/* Prices of many instruments for many subscribers: each gets the latest, however slowly it reads. A
 * thread makes the prices, the worker's thread sends them.
 *
 * cc market_data.c $(pkg-config --cflags --libs picows-uring) -pthread -o market_data
 * ./market_data 9002 1000000 */
#include <picows_uring.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INSTRUMENTS = 64, REMOTES_MAX = 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pwu_remote *remotes[REMOTES_MAX];
static pwu_worker *worker;
static long prices;

/* One subscriber: its place in the table that the thread of the prices goes through. */
static int on_connected(void *user, pwu_conn *conn) {
  int i, found = -1;
  pthread_mutex_lock(&lock);
  for (i = 0; i < REMOTES_MAX && found < 0; i++) {
    if (remotes[i] == NULL) {
      remotes[i] = pwu_remote_new(conn);
      found = i;
    }
  }
  pthread_mutex_unlock(&lock);
  *(int *)user = found;
  return found < 0 ? 1013 : 0;
}

static void on_disconnected(void *user, pwu_conn *conn) {
  int place = *(int *)user;
  (void)conn;
  if (place >= 0) {
    pthread_mutex_lock(&lock);
    pwu_remote_free(remotes[place]);
    remotes[place] = NULL;
    pthread_mutex_unlock(&lock);
  }
}

static int route(void *user, const pwu_request *request, pwu_answer *answer) {
  static pwu_callbacks callbacks;
  (void)user;
  (void)request;
  callbacks.size = sizeof callbacks;
  callbacks.on_connected = on_connected;
  callbacks.on_disconnected = on_disconnected;
  callbacks.free_user = free;
  answer->callbacks = &callbacks;
  answer->user = calloc(1, sizeof(int));
  return 0;
}

/* Makes prices, as a feed would, and ends the worker behind the last. */
static void *make_prices(void *unused) {
  long n;
  int i, sent;
  (void)unused;
  for (n = 0; n < prices; n += sent > 0) {
    char text[64];
    unsigned long long instrument = (unsigned long long)(n % INSTRUMENTS);
    int size = snprintf(text, sizeof text, "{\"id\":%llu,\"price\":%ld}", instrument, n);
    sent = 0;
    pthread_mutex_lock(&lock);
    for (i = 0; i < REMOTES_MAX; i++) {
      /* The key is the instrument: a price that waits is replaced by the next. */
      sent += remotes[i] != NULL && pwu_remote_send_latest(remotes[i], instrument, PWU_TEXT, text,
                                                           (size_t)size) >= 0;
    }
    pthread_mutex_unlock(&lock);
  }
  pwu_worker_stop(worker, 1000);
  return NULL;
}

int main(int count, char **arguments) {
  char address[64];
  pthread_t maker;
  pwu_error *error = NULL;
  pwu_server *server = NULL;
  snprintf(address, sizeof address, "127.0.0.1:%s", count > 1 ? arguments[1] : "9002");
  prices = count > 2 ? atol(arguments[2]) : 1000000;
  worker = pwu_worker_new(NULL, &error);
  server = worker ? pwu_listen(worker, address, -1, NULL, route, NULL, NULL, &error) : NULL;
  if (server == NULL || pthread_create(&maker, NULL, make_prices, NULL) != 0) {
    fprintf(stderr, "%s\n", pwu_error_text(error));
    return 1;
  }
  printf("listening on %s\n", pwu_server_url(server));
  fflush(stdout);
  pwu_worker_run(worker);
  pthread_join(maker, NULL);
  pwu_server_close(server);
  return pwu_worker_free(worker) == PWU_OK ? 0 : 1;
}
