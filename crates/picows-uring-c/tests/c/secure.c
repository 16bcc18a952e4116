/* TLS and compression as options: connections over both, and a sentence for each wrong use.
 *
 * Usage: secure FOLDER, with ca.pem and the pairs server, client and named (.crt and .key) in it. */
#include <stddef.h>

#include "pair.h"

static const char *folder;

/* The path of a file; valid until the fourth call after it. */
static const char *file(const char *name) {
  static char paths[4][512];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static void zero(pwu_tls_options *options) {
  memset(options, 0, sizeof *options);
  options->size = sizeof *options;
}

static pwu_tls *must(pwu_tls *tls, pwu_error *error) {
  if (tls == NULL) {
    fprintf(stderr, "%s\n", pwu_error_text(error));
    abort();
  }
  return tls;
}

/* Settings of a server; with `clients`, certificates of these issuers are required. */
static pwu_tls *server_tls(const char *clients) {
  pwu_tls_options options;
  pwu_error *error = NULL;
  zero(&options);
  options.certificate = file("server.crt");
  options.key = file("server.key");
  options.roots = clients;
  return must(pwu_tls_server(&options, &error), error);
}

/* Settings of a client, with a certificate if it `has_certificate`. */
static pwu_tls *client_tls(int has_certificate) {
  pwu_tls_options options;
  pwu_error *error = NULL;
  zero(&options);
  options.roots = file("ca.pem");
  if (has_certificate) {
    options.certificate = file("client.crt");
    options.key = file("client.key");
  }
  return must(pwu_tls_client(&options, &error), error);
}

static void with_tls(pwu_options *options, int is_server, pwu_tls *tls) {
  EXPECT_INT(pwu_options_init(options, sizeof *options, is_server), PWU_OK);
  options->tls = tls;
}

static pwu_tls_info info_of(const struct end *end) {
  pwu_tls_info info;
  memset(&info, 0, sizeof info);
  info.size = sizeof info;
  EXPECT_INT(pwu_get_tls_info(end->conn, &info), PWU_OK);
  return info;
}

static void echo(struct pair *pair) {
  static char large[100000];
  int frames = pair->at_client.frames;
  pair->at_server.answers = 1;
  EXPECT(pwu_send(pair->at_client.conn, PWU_TEXT, "hello", 5) >= 0);
  turn_until_count(pair->worker, &pair->at_client.frames, frames + 1);
  EXPECT(strcmp(pair->at_client.last, "hello") == 0);
  memset(large, 'z', sizeof large);
  EXPECT(pwu_send(pair->at_client.conn, PWU_BINARY, large, sizeof large) >= 0);
  turn_until_count(pair->worker, &pair->at_client.frames, frames + 2);
  EXPECT_INT(pair->at_client.last_size, sizeof large);
  EXPECT(memcmp(pair->at_client.last, large, sizeof pair->at_client.last - 1) == 0);
}

/* Ends the client's connection, and waits for both ends. */
static void close_client(struct pair *pair) {
  EXPECT_INT(pwu_disconnect(pair->at_client.conn), PWU_OK);
  turn_until_count(pair->worker, &pair->at_client.disconnected, 1);
  turn_until_count(pair->worker, &pair->at_server.disconnected, 1);
  EXPECT_INT(pwu_conn_unref(pair->at_client.conn), PWU_OK);
  EXPECT_INT(pwu_conn_unref(pair->at_server.conn), PWU_OK);
  end_init(&pair->at_client);
  end_init(&pair->at_server);
}

static void refuse(struct pair *pair, const pwu_options *options, int kind, const char *text) {
  pwu_attempt *attempt = pair_connect(pair, options, NULL);
  EXPECT(attempt != NULL);
  turn_until_count(pair->worker, &pair->at_client.outcomes, 1);
  EXPECT_INT(pwu_attempt_free(attempt), PWU_OK);
  EXPECT_INT(pair->at_client.refusal_kind, kind);
  if (strstr(pair->at_client.refusal, text) == NULL) {
    fprintf(stderr, "no %s in: %s\n", text, pair->at_client.refusal);
    abort();
  }
  end_init(&pair->at_client);
}

static void over_tls(void) {
  struct pair pair;
  pwu_options server, client;
  pwu_tls *tls = server_tls(NULL), *clients = client_tls(0), *strangers;
  pwu_tls_options options;
  with_tls(&server, 1, tls);
  with_tls(&client, 0, clients);
  pair_init(&pair, &server);
  /* The server keeps what it needs. */
  pwu_tls_free(tls);
  EXPECT(strncmp(pwu_server_url(pair.server), "wss://127.0.0.1:", 16) == 0);
  pair.url = "wss://localhost/";
  for (int round = 0; round < 2; round++) {
    pwu_tls_info info;
    pair_open(&pair, &client);
    echo(&pair);
    info = info_of(&pair.at_client);
    EXPECT_INT(info.version, 13);
    EXPECT_INT(info.resumed, round);
    EXPECT(strstr(info.cipher.data, "_SHA") != NULL);
    EXPECT(info.peer_certificate.size > 100);
    info = info_of(&pair.at_server);
    EXPECT_INT(info.version, 13);
    EXPECT_INT(info.resumed, round);
    EXPECT(is_text(info.server_name, "localhost"));
    EXPECT_INT(info.peer_certificate.size, 0);
    close_client(&pair);
  }
  /* A host that the certificate does not have, and the name that it has. */
  pair.url = "wss://other.example/";
  refuse(&pair, &client, PWU_ERROR_TLS, "localhost");
  client.tls_server_name = "localhost";
  pair_open(&pair, &client);
  echo(&pair);
  close_client(&pair);
  client.tls_server_name = NULL;
  pair.url = "wss://localhost/";
  /* Another authority. */
  zero(&options);
  options.roots = file("client.crt");
  strangers = must(pwu_tls_client(&options, NULL), NULL);
  client.tls = strangers;
  refuse(&pair, &client, PWU_ERROR_TLS, "issuer");
  pwu_tls_free(strangers);
  /* Any certificate, TLS 1.3. */
  zero(&options);
  options.insecure = 1;
  options.tls13_only = 1;
  strangers = must(pwu_tls_client(&options, NULL), NULL);
  client.tls = strangers;
  pair_open(&pair, &client);
  pwu_tls_free(strangers);
  echo(&pair);
  close_client(&pair);
  /* In clear: the server answers 400. */
  client.tls = NULL;
  pair.url = "ws://localhost/";
  refuse(&pair, &client, PWU_ERROR_ANSWER_STATUS, "400");
  pwu_tls_free(clients);
  pair_free(&pair);
}

static void expect_no_tls(pwu_tls *tls, pwu_error *error, int kind, const char *text) {
  EXPECT(tls == NULL);
  EXPECT_INT(pwu_error_kind(error), kind);
  if (strstr(pwu_error_text(error), text) == NULL) {
    fprintf(stderr, "no %s in: %s\n", text, pwu_error_text(error));
    abort();
  }
  pwu_error_free(error);
}

/* A server with a certificate for each of its names. */
static void by_name(void) {
  struct pair pair;
  pwu_options server, client;
  pwu_tls_options options;
  pwu_tls_named named;
  pwu_tls *tls, *clients = client_tls(0);
  pwu_error *error = NULL;
  const char *names[] = {"api.example", "localhost"};
  zero(&options);
  options.certificate = file("server.crt");
  options.key = file("server.key");
  named.name = "api.example";
  named.certificate = file("named.crt");
  named.key = NULL;
  options.named = &named;
  options.named_count = 1;
  tls = pwu_tls_server(&options, &error);
  expect_no_tls(tls, error, PWU_ERROR_CALL, "named");
  named.key = file("named.key");
  tls = pwu_tls_client(&options, &error);
  expect_no_tls(tls, error, PWU_ERROR_CALL, "by name");
  tls = must(pwu_tls_server(&options, &error), error);
  with_tls(&server, 1, tls);
  with_tls(&client, 0, clients);
  pair_init(&pair, &server);
  for (int i = 0; i < 2; i++) {
    char url[64];
    snprintf(url, sizeof url, "wss://%s/", names[i]);
    pair.url = url;
    pair_open(&pair, &client);
    echo(&pair);
    EXPECT(is_text(info_of(&pair.at_server).server_name, names[i]));
    close_client(&pair);
  }
  /* Any other name has the first certificate, which is not for it. */
  pair.url = "wss://other.example/";
  refuse(&pair, &client, PWU_ERROR_TLS, "localhost");
  pwu_tls_free(tls);
  pwu_tls_free(clients);
  pair_free(&pair);
}

static void with_certificates_of_clients(void) {
  struct pair pair;
  pwu_options server, client;
  pwu_tls *tls = server_tls(file("ca.pem")), *without = client_tls(0), *with = client_tls(1);
  with_tls(&server, 1, tls);
  pair_init(&pair, &server);
  pair.url = "wss://localhost/";
  with_tls(&client, 0, without);
  refuse(&pair, &client, PWU_ERROR_TLS, "certificate");
  client.tls = with;
  pair_open(&pair, &client);
  echo(&pair);
  EXPECT(info_of(&pair.at_server).peer_certificate.size > 100);
  close_client(&pair);
  pwu_tls_free(tls);
  pwu_tls_free(with);
  pwu_tls_free(without);
  pair_free(&pair);
}

static void copy(const char *from, const char *to) {
  char text[8192];
  FILE *in = fopen(file(from), "r"), *out = fopen(file(to), "w");
  size_t size = fread(text, 1, sizeof text, in);
  EXPECT_INT(fwrite(text, 1, size, out), size);
  fclose(in);
  fclose(out);
}

static void reloads(void) {
  struct pair pair;
  pwu_options server, client;
  pwu_tls_options options;
  pwu_tls *tls, *clients = client_tls(0);
  pwu_error *error = NULL;
  copy("server.crt", "pair.crt");
  copy("server.key", "pair.key");
  zero(&options);
  options.certificate = file("pair.crt");
  options.key = file("pair.key");
  tls = must(pwu_tls_server(&options, &error), error);
  with_tls(&server, 1, tls);
  with_tls(&client, 0, clients);
  pair_init(&pair, &server);
  pair.url = "wss://localhost/";
  EXPECT_INT(pwu_tls_reload(tls), PWU_OK);
  /* A key that does not fit: the old pair stays, and the sentence names the file. */
  copy("client.key", "pair.key");
  EXPECT_INT(pwu_tls_reload(tls), PWU_SYSTEM);
  EXPECT(strstr(pwu_last_error(), "pair.key") != NULL);
  pair_open(&pair, &client);
  echo(&pair);
  EXPECT_INT(pwu_tls_reload(clients), PWU_INVALID);
  pwu_tls_free(tls);
  pwu_tls_free(clients);
  pair_free(&pair);
}

static void wrong_uses(void) {
  struct pair pair;
  pwu_options options;
  pwu_tls_options files;
  pwu_tls_info info;
  pwu_error *error = NULL;
  pwu_tls *server = server_tls(NULL), *client = client_tls(0), *made;
  made = pwu_tls_server(NULL, &error);
  expect_no_tls(made, error, PWU_ERROR_CALL, "NULL");
  zero(&files);
  made = pwu_tls_server(&files, &error);
  expect_no_tls(made, error, PWU_ERROR_TLS, "certificate");
  files.certificate = file("server.crt");
  made = pwu_tls_server(&files, &error);
  expect_no_tls(made, error, PWU_ERROR_CALL, "key");
  files.key = file("nowhere.key");
  made = pwu_tls_server(&files, &error);
  expect_no_tls(made, error, PWU_ERROR_TLS, "nowhere.key");
  zero(&files);
  files.roots = file("nowhere.pem");
  made = pwu_tls_client(&files, &error);
  expect_no_tls(made, error, PWU_ERROR_TLS, "nowhere.pem");
  files.size = 1;
  made = pwu_tls_client(&files, &error);
  expect_no_tls(made, error, PWU_ERROR_CALL, "size");
  EXPECT_INT(pwu_tls_reload(NULL), PWU_NULL);
  pwu_tls_free(NULL);
  info.size = sizeof info;
  EXPECT_INT(pwu_get_tls_info(NULL, &info), PWU_NULL);

  /* Those of the other side. */
  with_tls(&options, 1, client);
  pair_init(&pair, NULL);
  EXPECT(pwu_listen(pair.worker, "127.0.0.1:0", -1, &options, end_route, NULL, NULL, &error) == NULL);
  EXPECT(strstr(pwu_error_text(error), "pwu_tls_server") != NULL);
  pwu_error_free(error);
  with_tls(&options, 0, server);
  EXPECT(pair_connect(&pair, &options, &error) == NULL);
  EXPECT(strstr(pwu_error_text(error), "pwu_tls_client") != NULL);
  pwu_error_free(error);
  end_init(&pair.at_client);
  /* wss:// where TLS is not spoken. */
  with_tls(&options, 0, client);
  pair.url = "wss://localhost/";
  refuse(&pair, &options, PWU_ERROR_TLS, "ws://");
  /* A program that was built before there was TLS. */
  pair.url = "ws://localhost/";
  EXPECT_INT(pwu_options_init(&options, offsetof(pwu_options, tls), 0), PWU_OK);
  pair_open(&pair, &options);
  EXPECT_INT(info_of(&pair.at_client).version, 0);
  close_client(&pair);
  pwu_tls_free(server);
  pwu_tls_free(client);
  pair_free(&pair);
}

static int has_deflate(const struct end *end) {
  pwu_response response;
  char head[1024];
  response.size = sizeof response;
  EXPECT_INT(pwu_get_response(end->conn, &response), PWU_OK);
  EXPECT(response.raw_head.size < sizeof head);
  memcpy(head, response.raw_head.data, response.raw_head.size);
  head[response.raw_head.size] = '\0';
  return strstr(head, "permessage-deflate") != NULL;
}

static void compressed(void) {
  struct pair pair;
  pwu_options server, client;
  pwu_error *error = NULL;
  EXPECT_INT(pwu_options_init(&server, sizeof server, 1), PWU_OK);
  EXPECT_INT(pwu_options_init(&client, sizeof client, 0), PWU_OK);
  EXPECT_INT(client.deflate, 0);
  server.deflate = 1;
  server.deflate_ratio_max = 2000;
  pair_init(&pair, &server);
  /* Only if both ends can do it. */
  pair_open(&pair, &client);
  EXPECT(!has_deflate(&pair.at_client));
  echo(&pair);
  close_client(&pair);
  client.deflate = 1;
  for (int takeover = 0; takeover < 2; takeover++) {
    client.deflate_context = (uint8_t)takeover;
    client.deflate_threshold = 1;
    pair_open(&pair, &client);
    EXPECT(has_deflate(&pair.at_client));
    echo(&pair);
    echo(&pair);
    close_client(&pair);
  }
  client.deflate_level = 10;
  EXPECT(pair_connect(&pair, &client, &error) == NULL);
  EXPECT_INT(pwu_error_kind(error), PWU_ERROR_SETTING);
  EXPECT(strstr(pwu_error_text(error), "level") != NULL);
  pwu_error_free(error);
  end_init(&pair.at_client);
  pair_free(&pair);
}

int main(int count, char **arguments) {
  EXPECT_INT(count, 2);
  folder = arguments[1];
  over_tls();
  by_name();
  with_certificates_of_clients();
  reloads();
  wrong_uses();
  compressed();
  return 0;
}
