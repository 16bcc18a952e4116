/* Uses a connection after it was let go of. Undefined: run by scripts/sanitize, which expects a report. */
#include "pair.h"

int main(void) {
  struct pair pair;
  pwu_conn *conn;
  pair_init(&pair, NULL);
  pair_open(&pair, NULL);
  conn = pair.at_client.conn;
  EXPECT_INT(pwu_abort(conn), PWU_OK);
  turn_until_count(pair.worker, &pair.at_client.freed, 1);
  EXPECT_INT(pwu_conn_unref(conn), PWU_OK);
  pair.at_client.conn = NULL;
  pwu_send(conn, PWU_TEXT, "late", 4);
  pair_free(&pair);
  return 0;
}
