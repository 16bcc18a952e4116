/* Connections made and closed again and again, and messages echoed on one: memory and descriptors stay as
 * they are.
 *
 * leaks [CYCLES [ECHOES [SECONDS]]], of which a tenth each warms up; with SECONDS, echoes for so long, and
 * ECHOES warm up. */
#include <dirent.h>
#include <time.h>

#include "pair.h"

static long resident_pages(void) {
  long total = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  EXPECT(file != NULL && fscanf(file, "%ld %ld", &total, &resident) == 2);
  fclose(file);
  return resident;
}

static int descriptors(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  EXPECT(folder != NULL);
  while (readdir(folder) != NULL) {
    count++;
  }
  closedir(folder);
  return count;
}

/* One message and its echo, and the close handshake; every fifth is refused, given up or aborted. */
static void cycle(struct pair *pair, int number) {
  static struct end silent;
  struct end *client = &pair->at_client, *server = &pair->at_server;
  pwu_error *error = NULL;
  pwu_attempt *attempt;
  int silence;
  int frees = client->freed + 1, server_frees = server->freed + 1;
  if (number % 5 == 0) {
    end_init(&silent);
    attempt = pwu_connect(pair->worker, "ws://a/", dial_silence(&silence), NULL, 0, NULL,
                          &silent.callbacks, &silent, end_outcome, NULL);
    EXPECT(pwu_worker_turn(pair->worker, 0) >= 0);
    EXPECT_INT(pwu_attempt_abandon(attempt), PWU_OK);
    turn_until_count(pair->worker, &silent.freed, 1);
    close(silence);
    return;
  }
  attempt = pair_connect(pair, NULL, &error);
  EXPECT(attempt != NULL);
  EXPECT_INT(pwu_attempt_free(attempt), PWU_OK);
  turn_until_count(pair->worker, &client->outcomes, client->outcomes + 1);
  EXPECT_INT(pwu_send(client->conn, PWU_TEXT, "hello", 5), PWU_OK);
  turn_until_count(pair->worker, &client->frames, client->frames + 1);
  EXPECT_INT(number % 5 == 1 ? pwu_abort(client->conn)
                             : pwu_send_close(client->conn, 1000, "bye", 3),
             PWU_OK);
  turn_until_count(pair->worker, &client->freed, frees);
  turn_until_count(pair->worker, &server->freed, server_frees);
  EXPECT_INT(pwu_conn_unref(client->conn), PWU_OK);
  EXPECT_INT(pwu_conn_unref(server->conn), PWU_OK);
  client->conn = server->conn = NULL;
}

/* What the process holds, and what it held after the warm-up. */
struct held {
  long pages;
  int descriptors;
};

static struct held holds(void) {
  struct held held;
  held.descriptors = descriptors();
  held.pages = resident_pages();
  return held;
}

/* Half a megabyte: a leak of 50 bytes a cycle in 10,000 is more. */
static void expect_flat(const char *what, long count, struct held before) {
  struct held now = holds();
  printf("%ld %s: %ld pages more, %d descriptors\n", count, what, now.pages - before.pages,
         now.descriptors);
  fflush(stdout);
  EXPECT_INT(now.descriptors, before.descriptors);
#ifndef __SANITIZE_ADDRESS__
  EXPECT(now.pages - before.pages < 128);
#endif
}

/* One message there and back, of a size that its number chooses. */
static void echo(struct pair *pair, long number) {
  static const size_t sizes[] = {0, 1, 125, 126, 1000, 65535, 65536, 300000};
  static char payload[300000];
  size_t size = sizes[number % (sizeof sizes / sizeof *sizes)];
  int frames = pair->at_client.frames + 1;
  EXPECT(pwu_send(pair->at_client.conn, PWU_BINARY, payload, size) >= 0);
  turn_until_count(pair->worker, &pair->at_client.frames, frames);
  EXPECT_INT(pair->at_client.last_size, size);
}

static void echo_all(struct pair *pair, long echoes, long seconds) {
  struct held before = {0, 0};
  time_t end;
  long number;
  end_init(&pair->at_client);
  end_init(&pair->at_server);
  pair->at_server.answers = 1;
  pair_open(pair, NULL);
  for (number = 0; number < echoes; number++) {
    if (number == echoes / 10) {
      before = holds();
    }
    echo(pair, number);
  }
  if (seconds > 0) {
    before = holds();
    for (end = time(NULL) + seconds; time(NULL) < end; number++) {
      echo(pair, number);
    }
  }
  expect_flat("echoes", number, before);
  EXPECT_INT(pwu_abort(pair->at_client.conn), PWU_OK);
}

int main(int count, char **arguments) {
  struct pair pair;
  struct held before = {0, 0};
  int cycles = count > 1 ? atoi(arguments[1]) : 500, number;
  pair_init(&pair, NULL);
  pair.at_server.answers = 1;
  for (number = 0; number < cycles; number++) {
    if (number == cycles / 10) {
      before = holds();
    }
    cycle(&pair, number);
  }
  expect_flat("cycles", cycles, before);
  echo_all(&pair, count > 2 ? atol(arguments[2]) : 400, count > 3 ? atol(arguments[3]) : 0);
  pair_free(&pair);
  return 0;
}
