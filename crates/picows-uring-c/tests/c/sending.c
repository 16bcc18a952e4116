/* The ways to send: by reference, with headroom, the latest, forwarded, raw, from other threads; and
 * pauses. */
#include "pair.h"

#ifdef __cplusplus
extern "C"
#else
extern
#endif
int pwu_test_write_raw(pwu_conn *conn, const void *data, size_t size);

static int dones;

static void done(void *user) {
  free(user);
  dones++;
}

static pwu_frame kept;

static int keeps(void *user, pwu_conn *conn, const pwu_frame *frame) {
  kept = *frame;
  return end_frame(user, conn, frame);
}

/* Takes turns until nothing is buffered. */
static void drain(struct pair *pair, pwu_conn *conn) {
  struct pollfd watched;
  watched.fd = pwu_worker_fd(pair->worker);
  watched.events = POLLIN;
  for (;;) {
    int turned = pwu_worker_turn(pair->worker, 0);
    EXPECT(turned >= 0);
    if (pwu_buffered(conn) == 0) {
      return;
    }
    EXPECT(poll(&watched, 1, turned == PWU_BUSY ? 0 : 20000) >= (turned == PWU_BUSY ? 0 : 1));
  }
}

/* Each frame arrives as it was sent, whichever end sends. */
static void ways(int of_server) {
  enum { LARGE = 300000 };
  struct pair pair;
  struct end *from, *to;
  uint8_t *large = (uint8_t *)malloc(PWU_HEADROOM + LARGE);
  pair_init(&pair, NULL);
  from = of_server ? &pair.at_server : &pair.at_client;
  to = of_server ? &pair.at_client : &pair.at_server;
  from->callbacks.on_frame = keeps;
  pair_open(&pair, NULL);
  dones = 0;

  EXPECT_INT(pwu_send_frame(from->conn, PWU_TEXT, 0, 0, "he", 2), PWU_OK);
  EXPECT_INT(pwu_send(from->conn, PWU_TEXT, "no", 2), PWU_REFUSED);
  EXPECT(strstr(pwu_last_error(), "fragmented message is under way") != NULL);
  EXPECT_INT(pwu_send_frame(from->conn, PWU_CONTINUATION, 1, 0, "llo", 3), PWU_OK);
  EXPECT_INT(pwu_send_frame(from->conn, PWU_TEXT, 1, 8, "", 0), PWU_REFUSED);
  turn_until_count(pair.worker, &to->frames, 2);
  EXPECT(strcmp(to->last, "llo") == 0);

  EXPECT_INT(pwu_send_owned(from->conn, PWU_TEXT, 1, 0, "short", 5, done, malloc(1)), PWU_OK);
  memset(large, 'x', PWU_HEADROOM + LARGE);
  EXPECT(pwu_send_owned(from->conn, PWU_BINARY, 1, 0, large, LARGE, done, malloc(1)) >= 0);
  turn_until_count(pair.worker, &to->frames, 4);
  turn_until_count(pair.worker, &dones, 2);
  EXPECT_INT(to->last_size, LARGE);
  EXPECT_INT(to->last[0], 'x');

  /* A large frame is encoded where it lies, and the socket has some of it before the call returns. */
  drain(&pair, from->conn);
  memset(large, 0, PWU_HEADROOM);
  EXPECT(pwu_send_headroom(from->conn, PWU_BINARY, 1, 0, large + PWU_HEADROOM, LARGE) >= 0);
  EXPECT_INT(large[of_server ? 4 : 0], 0x82);
  EXPECT(pwu_buffered(from->conn) < LARGE);
  memset(large, 'z', PWU_HEADROOM + LARGE); /* The buffer is the caller's again. */
  turn_until_count(pair.worker, &to->frames, 5);
  EXPECT_INT(to->last_size, LARGE);
  EXPECT_INT(to->last[0], 'x');
  EXPECT_INT(to->last[62], 'x');
  memcpy(large + PWU_HEADROOM, "small", 5);
  EXPECT_INT(pwu_send_headroom(from->conn, PWU_TEXT, 1, 0, large + PWU_HEADROOM, 5), PWU_OK);
  turn_until_count(pair.worker, &to->frames, 6);
  EXPECT(strcmp(to->last, "small") == 0);

  EXPECT_INT(pwu_send_latest(from->conn, 7, PWU_TEXT, "old", 3), PWU_OK);
  EXPECT_INT(pwu_send_latest(from->conn, 7, PWU_PING, "old", 3), PWU_REFUSED);
  turn_until_count(pair.worker, &to->frames, 7);

  /* A frame that was kept beyond its callback is not forwarded. */
  EXPECT_INT(pwu_send(to->conn, PWU_TEXT, "back", 4), PWU_OK);
  turn_until_count(pair.worker, &from->frames, 1);
  EXPECT_INT(pwu_forward(from->conn, &kept), PWU_INVALID);
  EXPECT(strstr(pwu_last_error(), "copy") != NULL);

  EXPECT_INT(pwu_send_close(from->conn, 0, NULL, 0), PWU_OK);
  EXPECT_INT(pwu_send_owned(from->conn, PWU_TEXT, 1, 0, "a", 1, done, malloc(1)), PWU_CLOSED);
  EXPECT_INT(dones, 3);
  turn_until_count(pair.worker, &from->freed, 1);
  pair_free(&pair);
  free(large);
}

/* A peer that does not read: pauses, by a callback in a flush, or taken over. */
static void pauses(int takes) {
  struct pair pair;
  static char noise[64 * 1024];
  int status, paused = 0;
  memset(noise, 3, sizeof noise);
  pair_init(&pair, NULL);
  pair_open(&pair, NULL);
  EXPECT_INT(pwu_set_watermarks(pair.at_client.conn, 1, 2), PWU_INVALID);
  EXPECT_INT(pwu_set_watermarks(pair.at_client.conn, 200000, 1000), PWU_OK);
  EXPECT_INT(pwu_pause_reading(pair.at_server.conn, 1), PWU_OK);
  EXPECT(pwu_worker_turn(pair.worker, 0) >= 0);
  while (!paused) {
    status = pwu_send(pair.at_client.conn, PWU_BINARY, noise, sizeof noise);
    EXPECT(status == PWU_OK || status == PWU_CONGESTED);
    if (status == PWU_CONGESTED && takes) {
      paused = pwu_take_pause(pair.at_client.conn);
    } else if (status == PWU_CONGESTED) {
      EXPECT_INT(pwu_worker_flush(pair.worker), PWU_OK);
      paused = pair.at_client.pauses;
    }
  }
  EXPECT(pwu_buffered(pair.at_client.conn) > 200000);
  EXPECT_INT(pair.at_client.pauses, !takes);
  EXPECT_INT(pwu_pause_reading(pair.at_server.conn, 0), PWU_OK);
  turn_until_count(pair.worker, &pair.at_client.resumes, 1);
  EXPECT_INT(pair.at_client.pauses, !takes);
  EXPECT_INT(pwu_abort(pair.at_client.conn), PWU_OK);
  turn_until_count(pair.worker, &pair.at_client.freed, 1);
  pair_free(&pair);
}

/* Fragments in any order, and bytes that are no frame. */
static void any_order(void) {
  struct pair pair;
  pwu_options options;
  pwu_close_info info;
  EXPECT_INT(pwu_options_init(&options, sizeof options, 1), PWU_OK);
  options.any_order = 1;
  options.allow_rsv = 7;
  pair_init(&pair, &options);
  pair_open(&pair, &options);
  EXPECT_INT(pwu_send_frame(pair.at_client.conn, PWU_TEXT, 0, 0, "a", 1), PWU_OK);
  EXPECT_INT(pwu_send_frame(pair.at_client.conn, PWU_BINARY, 0, 7, "b", 1), PWU_OK);
  turn_until_count(pair.worker, &pair.at_server.frames, 2);
  EXPECT_INT(pwu_test_write_raw(pair.at_client.conn, "\x84\x80\0\0\0\0", 6), PWU_OK);
  turn_until_count(pair.worker, &pair.at_client.freed, 1);
  info.size = sizeof info;
  EXPECT_INT(pwu_get_close_info(pair.at_client.conn, &info), PWU_OK);
  EXPECT_INT(info.received_code, 1002);
  turn_until_count(pair.worker, &pair.at_server.freed, 1);
  EXPECT_INT(pwu_get_close_info(pair.at_server.conn, &info), PWU_OK);
  EXPECT_INT(info.cause, PWU_CAUSE_PROTOCOL);
  EXPECT_INT(pwu_test_write_raw(pair.at_client.conn, "a", 1), PWU_CLOSED);
  pair_free(&pair);
}

static void *posts(void *user) {
  pwu_remote *remote = (pwu_remote *)user;
  int i;
  for (i = 0; i < 1000; i++) {
    EXPECT_INT(pwu_remote_send(remote, PWU_TEXT, "post", 4), PWU_OK);
  }
  EXPECT_INT(pwu_remote_send_latest(remote, 1, PWU_TEXT, "latest", 6), PWU_OK);
  EXPECT_INT(pwu_remote_send_close(remote, 4000, "done", 4), PWU_OK);
  return NULL;
}

static void remotes(void) {
  struct pair pair;
  pthread_t thread;
  pwu_remote *remote;
  pwu_close_info info;
  pair_init(&pair, NULL);
  pair_open(&pair, NULL);
  remote = pwu_remote_new(pair.at_client.conn);
  EXPECT_INT(pthread_create(&thread, NULL, posts, remote), 0);
  turn_until_count(pair.worker, &pair.at_server.freed, 1);
  EXPECT_INT(pair.at_server.frames, 1001);
  EXPECT(strcmp(pair.at_server.last, "latest") == 0);
  EXPECT_INT(pthread_join(thread, NULL), 0);
  info.size = sizeof info;
  EXPECT_INT(pwu_get_close_info(pair.at_server.conn, &info), PWU_OK);
  EXPECT_INT(info.received_code, 4000);
  turn_until_count(pair.worker, &pair.at_client.freed, 1);
  EXPECT_INT(pwu_remote_disconnect(remote), PWU_CLOSED);
  EXPECT_INT(pwu_remote_abort(remote), PWU_CLOSED);
  EXPECT_INT(pwu_remote_free(remote), PWU_OK);
  pair_free(&pair);
}

int main(void) {
  ways(0);
  ways(1);
  pauses(0);
  pauses(1);
  any_order();
  remotes();
  return 0;
}
