/* What the tests in C have in common: an expectation that ends the process, and sockets.
 *
 * Compiles as C99 and as C++. */
#ifndef CHECK_H
#define CHECK_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "picows_uring.h"

#define EXPECT(condition)                                                                  \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      fprintf(stderr, "%s:%d: expected %s; last error: %s\n", __FILE__, __LINE__,          \
              #condition, pwu_last_error());                                               \
      abort();                                                                             \
    }                                                                                      \
  } while (0)

#define EXPECT_INT(left, right)                                                            \
  do {                                                                                     \
    long long left_ = (long long)(left), right_ = (long long)(right);                      \
    if (left_ != right_) {                                                                 \
      fprintf(stderr, "%s:%d: %s is %lld and not %lld; last error: %s\n", __FILE__,        \
              __LINE__, #left, left_, right_, pwu_last_error());                           \
      abort();                                                                             \
    }                                                                                      \
  } while (0)

/* A worker with the defaults. */
static inline pwu_worker *new_worker(void) {
  pwu_error *error = NULL;
  pwu_worker *worker = pwu_worker_new(NULL, &error);
  if (worker == NULL) {
    fprintf(stderr, "%s\n", pwu_error_text(error));
    abort();
  }
  return worker;
}

/* A socket that is connected to `url`, such as ws://127.0.0.1:4711 or wss://127.0.0.1:4711. */
static inline int dial(const char *url) {
  const char *address = strstr(url, "://") + strlen("://");
  struct sockaddr_in to;
  char host[64];
  const char *colon = strrchr(address, ':');
  size_t length = (size_t)(colon - address);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  memset(&to, 0, sizeof to);
  to.sin_family = AF_INET;
  to.sin_port = htons((unsigned short)atoi(colon + 1));
  EXPECT(length < sizeof host);
  memcpy(host, address, length);
  host[length] = '\0';
  EXPECT_INT(inet_pton(AF_INET, host, &to.sin_addr), 1);
  EXPECT_INT(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  return fd;
}

/* A socket that is connected to a listening one, `*listener`, which never answers. */
static inline int dial_silence(int *listener) {
  struct sockaddr_in at;
  socklen_t size = sizeof at;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  *listener = socket(AF_INET, SOCK_STREAM, 0);
  memset(&at, 0, sizeof at);
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_INT(bind(*listener, (struct sockaddr *)&at, sizeof at), 0);
  EXPECT_INT(listen(*listener, 8), 0);
  EXPECT_INT(getsockname(*listener, (struct sockaddr *)&at, &size), 0);
  EXPECT_INT(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
  return fd;
}

/* Takes turns, and waits in between, until `*is_done`. */
static inline void turn_until(pwu_worker *worker, const int *is_done) {
  struct pollfd watched;
  watched.fd = pwu_worker_fd(worker);
  watched.events = POLLIN;
  EXPECT(watched.fd >= 0);
  for (;;) {
    int turned = pwu_worker_turn(worker, 0);
    EXPECT(turned >= 0);
    if (*is_done) {
      return;
    }
    EXPECT(turned != PWU_DONE);
    /* The limit is for tests that fail. */
    EXPECT(poll(&watched, 1, turned == PWU_BUSY ? 0 : 20000) >= (turned == PWU_BUSY ? 0 : 1));
  }
}

static inline int is_text(pwu_str text, const char *expected) {
  return text.size == strlen(expected) && memcmp(text.data, expected, text.size) == 0;
}

#endif
