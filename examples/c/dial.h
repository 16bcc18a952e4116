/* Dialling for the examples: a name and a port become a connected socket. It may block. */
#ifndef DIAL_H
#define DIAL_H

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The socket, or -1 with a line on standard error. `url` is ws://host:port and a path or none. */
static int dial(const char *url) {
  char host[256] = "", port[8] = "80";
  struct addrinfo hints, *found = NULL, *it;
  int fd = -1, failure;
  if (sscanf(url, "ws://%255[^:/]:%7[0-9]", host, port) < 1) {
    fprintf(stderr, "%s is no URL like ws://host:port/path\n", url);
    return -1;
  }
  memset(&hints, 0, sizeof hints);
  hints.ai_socktype = SOCK_STREAM;
  failure = getaddrinfo(host, port, &hints, &found);
  if (failure != 0) {
    fprintf(stderr, "%s: %s\n", host, gai_strerror(failure));
    return -1;
  }
  for (it = found; it != NULL && fd < 0; it = it->ai_next) {
    fd = socket(it->ai_family, it->ai_socktype, it->ai_protocol);
    if (fd >= 0 && connect(fd, it->ai_addr, it->ai_addrlen) != 0) {
      close(fd);
      fd = -1;
    }
  }
  freeaddrinfo(found);
  if (fd < 0) {
    perror(url);
  }
  return fd;
}

#endif
