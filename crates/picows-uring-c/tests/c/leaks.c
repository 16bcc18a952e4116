/* Connections made and closed again and again: memory and descriptors stay as they are.
 *
 * leaks [CYCLES], of which a tenth warms up. */
#include <dirent.h>

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

int main(int count, char **arguments) {
  struct pair pair;
  int cycles = count > 1 ? atoi(arguments[1]) : 500, number, open_before = 0;
  long pages_before = 0, pages;
  pair_init(&pair, NULL);
  pair.at_server.answers = 1;
  for (number = 0; number < cycles; number++) {
    if (number == cycles / 10) {
      open_before = descriptors();
      pages_before = resident_pages();
    }
    cycle(&pair, number);
  }
  EXPECT_INT(descriptors(), open_before);
  pages = resident_pages() - pages_before;
#ifndef __SANITIZE_ADDRESS__
  /* Half a megabyte: a leak of 50 bytes a cycle in 10,000 is more. */
  EXPECT(pages < 128);
#endif
  printf("%d cycles: %ld pages more, %d descriptors\n", cycles, pages, open_before);
  pair_free(&pair);
  return 0;
}
