/* Where requests come from: clients named by proxies, and sites that may not connect. */
#include "pair.h"

static char peer[64];

/* Notes the peer of the request, and accepts. */
static int notes(void *user, const pwu_request *request, pwu_answer *answer) {
  EXPECT(request->peer.size < sizeof peer);
  memcpy(peer, request->peer.data, request->peer.size);
  peer[request->peer.size] = '\0';
  return end_route(user, request, answer);
}

struct door {
  pwu_worker *worker;
  pwu_server *server;
  struct end at_server, at_client;
};

static void door_open(struct door *door, const pwu_options *options) {
  pwu_error *error = NULL;
  end_init(&door->at_server);
  door->worker = new_worker();
  door->server = pwu_listen(door->worker, "127.0.0.1:0", -1, options, notes, &door->at_server,
                            NULL, &error);
  if (door->server == NULL) {
    fprintf(stderr, "%s\n", pwu_error_text(error));
    abort();
  }
}

/* Connects behind `preamble` with one header, and ends the connection; the status of a refusal, or 0. */
static int knock(struct door *door, const char *preamble, const char *name, const char *value) {
  int fd = dial(pwu_server_url(door->server)), freed = door->at_server.freed + 1;
  pwu_header header;
  pwu_attempt *attempt;
  header.name.data = name;
  header.name.size = strlen(name);
  header.value.data = value;
  header.value.size = strlen(value);
  peer[0] = '\0';
  EXPECT_INT(write(fd, preamble, strlen(preamble)), strlen(preamble));
  end_init(&door->at_client);
  attempt = pwu_connect(door->worker, "ws://example.com/", fd, &header, *name != '\0', NULL,
                        &door->at_client.callbacks, &door->at_client, end_outcome, NULL);
  EXPECT(attempt != NULL);
  EXPECT_INT(pwu_attempt_free(attempt), PWU_OK);
  turn_until_count(door->worker, &door->at_client.outcomes, 1);
  if (door->at_client.conn == NULL) {
    EXPECT(door->at_client.refusal[0] != '\0');
    return door->at_client.refusal_status;
  }
  EXPECT_INT(pwu_disconnect(door->at_client.conn), PWU_OK);
  turn_until_count(door->worker, &door->at_client.freed, 1);
  turn_until_count(door->worker, &door->at_server.freed, freed);
  EXPECT_INT(pwu_conn_unref(door->at_client.conn), PWU_OK);
  EXPECT_INT(pwu_conn_unref(door->at_server.conn), PWU_OK);
  return 0;
}

static void door_close(struct door *door) {
  EXPECT_INT(pwu_server_close(door->server), PWU_OK);
  EXPECT_INT(pwu_worker_free(door->worker), PWU_OK);
}

static void defaults(pwu_options *options) {
  EXPECT_INT(pwu_options_init(options, sizeof *options, 1), PWU_OK);
}

static void by_proxy_protocol(void) {
  struct door door;
  pwu_options options;
  defaults(&options);
  options.proxy_protocol = "10.0.0.0/8, 127.0.0.1";
  door_open(&door, &options);
  EXPECT_INT(knock(&door, "PROXY TCP4 192.0.2.7 127.0.0.1 1111 80\r\n", "", ""), 0);
  EXPECT(strcmp(peer, "192.0.2.7:1111") == 0);
  door_close(&door);
}

static void by_headers(void) {
  struct door door;
  pwu_options options;
  defaults(&options);
  options.trusted_proxies = "127.0.0.0/8";
  door_open(&door, &options);
  EXPECT_INT(knock(&door, "", "X-Forwarded-For", "192.0.2.8"), 0);
  EXPECT(strcmp(peer, "192.0.2.8:0") == 0);
  EXPECT_INT(knock(&door, "", "Forwarded", "for=192.0.2.9"), 0);
  EXPECT(strncmp(peer, "127.0.0.1:", 10) == 0);
  door_close(&door);
  options.trusted_by_forwarded = 1;
  door_open(&door, &options);
  EXPECT_INT(knock(&door, "", "Forwarded", "for=192.0.2.9"), 0);
  EXPECT(strcmp(peer, "192.0.2.9:0") == 0);
  door_close(&door);
  /* By default such a header says nothing. */
  door_open(&door, NULL);
  EXPECT_INT(knock(&door, "", "X-Forwarded-For", "192.0.2.8"), 0);
  EXPECT(strncmp(peer, "127.0.0.1:", 10) == 0);
  door_close(&door);
}

static void by_origin(void) {
  struct door door;
  pwu_options options;
  defaults(&options);
  options.origins = "https://example.com, https://*.example.org";
  door_open(&door, &options);
  EXPECT_INT(knock(&door, "", "Origin", "https://evil.example"), 403);
  EXPECT_INT(strlen(peer), 0);
  EXPECT_INT(knock(&door, "", "Origin", "https://example.com"), 0);
  EXPECT_INT(knock(&door, "", "Origin", "https://a.example.org"), 0);
  EXPECT_INT(knock(&door, "", "", ""), 0);
  door_close(&door);
  options.origins = "same-host";
  door_open(&door, &options);
  EXPECT_INT(knock(&door, "", "Origin", "http://example.com"), 0);
  EXPECT_INT(knock(&door, "", "Origin", "http://example.org"), 403);
  door_close(&door);
}

static void refuse(const pwu_options *options, const char *text) {
  pwu_worker *worker = new_worker();
  pwu_error *error = NULL;
  EXPECT(pwu_listen(worker, "127.0.0.1:0", -1, options, notes, NULL, NULL, &error) == NULL);
  if (strstr(pwu_error_text(error), text) == NULL) {
    fprintf(stderr, "no %s in: %s\n", text, pwu_error_text(error));
    abort();
  }
  pwu_error_free(error);
  EXPECT_INT(pwu_worker_free(worker), PWU_OK);
}

static void wrong_uses(void) {
  pwu_options options;
  defaults(&options);
  options.proxy_protocol = "10.0.0.0/33";
  refuse(&options, "proxy_protocol: \"10.0.0.0/33\"");
  defaults(&options);
  options.trusted_proxies = "everyone";
  refuse(&options, "trusted_proxies: \"everyone\"");
  defaults(&options);
  options.origins = "https://example.com, example.org";
  refuse(&options, "origins: \"example.org\"");
}

int main(void) {
  by_proxy_protocol();
  by_headers();
  by_origin();
  wrong_uses();
  return 0;
}
