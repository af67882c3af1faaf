/* libzmq's side of the benchmark `libzmq`; main.rs tells what is measured.
 *
 *   peer broker                      XSUB and XPUB with CURVE on loopback, zmq_proxy between
 *   peer ends SETTINGS               one PUB and some SUBs at that broker
 *   peer inproc SETTINGS             PUB and SUBs in this process, without a broker
 *
 * SETTINGS: SUBSCRIBERS ENVELOPES WINDOW RATE WARM_MS SPAN_MS. The messages come on standard input,
 * one a line in hexadecimal: the prefix to subscribe to, then one or two messages that are sent in
 * turn, each preceded by where in it the stamp stands (8 bytes of time, 8 of a number). `broker`
 * prints its two addresses and its key, and `ends` is told them by the environment.
 *
 * Threads: the broker has libzmq's own and the proxy's; a publisher its own and libzmq's; the
 * subscribers one together and libzmq's. The Rust side has as many.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#define MOST_SUBSCRIBERS 64
#define DRAIN 64

struct message {
  size_t stamp, size;
  unsigned char *bytes;
};

static int subscribers, envelopes, window, warm_ms, span_ms;
static long rate;
static struct message prefix, messages[2];
static int message_count;
static char publish_to[256], subscribe_at[256];

/* One for each subscriber, each in a cache line of its own. */
static struct {
  _Alignas(64) _Atomic uint64_t count;
  _Atomic int seen;
  uint64_t lost;
} progress[MOST_SUBSCRIBERS];
static _Atomic int stop, measuring, done;
static uint64_t *latencies;
static size_t latency_count, latency_room;

static void fail(const char *what) {
  fprintf(stderr, "libzmq: %s: %s\n", what, zmq_strerror(zmq_errno()));
  exit(1);
}

static void check(int result, const char *what) {
  if (result == -1) fail(what);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void pause_ns(uint64_t ns) {
  struct timespec time = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
  nanosleep(&time, NULL);
}

/* Nothing is dropped: the window keeps less on its way than any queue holds. */
static void *new_socket(void *context, int type) {
  void *socket = zmq_socket(context, type);
  int limit = 2 * window > 1000 ? 2 * window : 1000, linger = 0, one = 1;
  if (!socket) fail("socket");
  check(zmq_setsockopt(socket, ZMQ_SNDHWM, &limit, sizeof limit), "high-water mark");
  check(zmq_setsockopt(socket, ZMQ_RCVHWM, &limit, sizeof limit), "high-water mark");
  check(zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger), "linger");
  if (type == ZMQ_PUB || type == ZMQ_XPUB)
    check(zmq_setsockopt(socket, ZMQ_XPUB_NODROP, &one, sizeof one), "no drop");
  return socket;
}

static void *new_client(void *context, int type) {
  void *socket = new_socket(context, type);
  char public_key[41], secret_key[41];
  check(zmq_curve_keypair(public_key, secret_key), "a pair of keys");
  check(zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, getenv("SERVER_KEY"), 41), "server's key");
  check(zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, public_key, 41), "public key");
  check(zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secret_key, 41), "secret key");
  return socket;
}

static int broker(void) {
  void *context = zmq_ctx_new(), *side[2];
  char public_key[41], secret_key[41], address[256];
  size_t length;
  int one = 1, type[2] = {ZMQ_XSUB, ZMQ_XPUB};
  window = 65536; /* only for the marks of its sockets */
  check(zmq_curve_keypair(public_key, secret_key), "a pair of keys");
  for (int i = 0; i < 2; i++) {
    side[i] = new_socket(context, type[i]);
    check(zmq_setsockopt(side[i], ZMQ_CURVE_SERVER, &one, sizeof one), "CURVE");
    check(zmq_setsockopt(side[i], ZMQ_CURVE_SECRETKEY, secret_key, 41), "secret key");
    check(zmq_bind(side[i], "tcp://127.0.0.1:*"), "bind");
    length = sizeof address;
    check(zmq_getsockopt(side[i], ZMQ_LAST_ENDPOINT, address, &length), "address");
    printf("%s ", address);
  }
  printf("%s\n", public_key);
  fflush(stdout);
  zmq_proxy(side[0], side[1], NULL);
  return 0;
}

static void send_one(void *socket, uint64_t number) {
  struct message *message = &messages[number % (uint64_t)message_count];
  uint64_t time = now();
  memcpy(message->bytes + message->stamp, &time, 8);
  memcpy(message->bytes + message->stamp + 8, &number, 8);
  check(zmq_send(socket, message->bytes, message->size, 0), "send");
}

static uint64_t slowest(void) {
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < subscribers; i++) {
    uint64_t count = atomic_load_explicit(&progress[i].count, memory_order_relaxed);
    if (count < least) least = count;
  }
  return least;
}

static int all_seen(void) {
  for (int i = 0; i < subscribers; i++)
    if (!atomic_load(&progress[i].seen)) return 0;
  return 1;
}

/* Number 0 is said until everybody hears it; then the numbers count from 1. */
static void *publish(void *socket) {
  while (!all_seen() && !atomic_load(&stop)) {
    send_one(socket, 0);
    pause_ns(10000000);
  }
  uint64_t begun = now(), least = 0, number = 0;
  uint64_t room = (uint64_t)window / (uint64_t)envelopes;
  if (!room) room = 1;
  while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
    if (rate) {
      uint64_t due = begun + number * 1000000000u / (uint64_t)rate;
      for (uint64_t time = now(); time < due; time = now()) pause_ns(due - time);
    } else if (number - least >= room) {
      least = slowest();
      if (number - least >= room) {
        pause_ns(50000);
        continue;
      }
    }
    send_one(socket, ++number);
  }
  atomic_store(&done, 1);
  return NULL;
}

static void take(int which, zmq_msg_t *message) {
  uint64_t time = now(), stamp[2];
  if (zmq_msg_size(message) != messages[0].size) {
    fprintf(stderr, "libzmq: a message of another size came\n");
    exit(1);
  }
  unsigned char *bytes = zmq_msg_data(message);
  memcpy(stamp, bytes + messages[0].stamp, sizeof stamp);
  if (!stamp[1]) {
    atomic_store(&progress[which].seen, 1);
    return;
  }
  uint64_t before = atomic_load_explicit(&progress[which].count, memory_order_relaxed);
  progress[which].lost += stamp[1] - before - 1;
  atomic_store_explicit(&progress[which].count, stamp[1], memory_order_relaxed);
  if (rate && atomic_load_explicit(&measuring, memory_order_relaxed) &&
      latency_count < latency_room)
    latencies[latency_count++] = time - stamp[0];
}

static void *subscribe(void *argument) {
  void **sockets = argument;
  zmq_pollitem_t items[MOST_SUBSCRIBERS];
  zmq_msg_t message;
  zmq_msg_init(&message);
  for (int i = 0; i < subscribers; i++)
    items[i] = (zmq_pollitem_t){.socket = sockets[i], .events = ZMQ_POLLIN};
  while (!atomic_load_explicit(&done, memory_order_relaxed)) {
    check(zmq_poll(items, subscribers, 100), "poll");
    for (int i = 0; i < subscribers; i++) {
      if (!(items[i].revents & ZMQ_POLLIN)) continue;
      for (int taken = 0; taken < DRAIN; taken++) {
        if (zmq_msg_recv(&message, sockets[i], ZMQ_DONTWAIT) == -1) break;
        take(i, &message);
      }
    }
  }
  zmq_msg_close(&message);
  return NULL;
}

static int compare(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return (a > b) - (a < b);
}

static double at(double share) {
  if (!latency_count) return 0;
  return (double)latencies[(size_t)((double)(latency_count - 1) * share)] / 1000;
}

static uint64_t taken_in_all(void) {
  uint64_t sum = 0;
  for (int i = 0; i < subscribers; i++) sum += atomic_load(&progress[i].count);
  return sum;
}

static int ends(int inproc) {
  void *context = zmq_ctx_new(), *other = inproc ? context : zmq_ctx_new();
  void *sockets[MOST_SUBSCRIBERS], *publisher;
  pthread_t publishing, subscribing;
  publisher = inproc ? new_socket(context, ZMQ_PUB) : new_client(context, ZMQ_PUB);
  if (inproc)
    check(zmq_bind(publisher, "inproc://bench"), "bind");
  else
    check(zmq_connect(publisher, publish_to), "connect");
  for (int i = 0; i < subscribers; i++) {
    sockets[i] = inproc ? new_socket(other, ZMQ_SUB) : new_client(other, ZMQ_SUB);
    check(zmq_setsockopt(sockets[i], ZMQ_SUBSCRIBE, prefix.bytes, prefix.size), "subscribe");
    check(zmq_connect(sockets[i], inproc ? "inproc://bench" : subscribe_at), "connect");
  }
  pthread_create(&subscribing, NULL, subscribe, sockets);
  pthread_create(&publishing, NULL, publish, publisher);
  for (int waited = 0; !all_seen(); waited++) {
    if (waited > 2000) fail("no subscriber is reached");
    pause_ns(10000000);
  }
  pause_ns((uint64_t)warm_ms * 1000000u);
  atomic_store(&measuring, 1);
  uint64_t begun = now(), before = taken_in_all();
  pause_ns((uint64_t)span_ms * 1000000u);
  uint64_t took = now() - begun, count = taken_in_all() - before, lost = 0;
  atomic_store(&stop, 1);
  pthread_join(publishing, NULL);
  pthread_join(subscribing, NULL);
  for (int i = 0; i < subscribers; i++) lost += progress[i].lost;
  qsort(latencies, latency_count, sizeof *latencies, compare);
  printf("{\"rate\":%.0f,\"missed\":%llu,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f}\n",
         (double)count * envelopes / subscribers / ((double)took / 1e9), (unsigned long long)lost,
         at(0.5), at(0.99), at(0.999));
  fflush(stdout);
  return 0;
}

static struct message read_message(int with_stamp) {
  struct message message = {0};
  size_t room = 0;
  ssize_t length;
  char *line = NULL;
  if (with_stamp && scanf("%zu ", &message.stamp) != 1) return message;
  if ((length = getline(&line, &room, stdin)) < 1) return message;
  message.bytes = malloc((size_t)length / 2 + 1);
  for (ssize_t i = 0; i + 1 < length; i += 2) {
    unsigned value;
    if (sscanf(line + i, "%2x", &value) != 1) break;
    message.bytes[message.size++] = (unsigned char)value;
  }
  free(line);
  return message;
}

int main(int count, char **words) {
  if (count == 2 && !strcmp(words[1], "version")) {
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    printf("libzmq %d.%d.%d, CURVE: %s\n", major, minor, patch, zmq_has("curve") ? "yes" : "no");
    return 0;
  }
  if (count == 2 && !strcmp(words[1], "broker")) return broker();
  if (count != 8) return 2;
  int inproc = !strcmp(words[1], "inproc");
  subscribers = atoi(words[2]);
  envelopes = atoi(words[3]);
  window = atoi(words[4]);
  rate = atol(words[5]);
  warm_ms = atoi(words[6]);
  span_ms = atoi(words[7]);
  if (subscribers < 1 || subscribers > MOST_SUBSCRIBERS || envelopes < 1) return 2;
  if (!inproc) {
    const char *where = getenv("ADDRESSES");
    if (!where || sscanf(where, "%255s %255s", publish_to, subscribe_at) != 2) return 2;
  }
  prefix = read_message(0);
  while (message_count < 2 && (messages[message_count] = read_message(1)).size) message_count++;
  if (!prefix.size || !message_count) return 2;
  latency_room = (size_t)rate * (size_t)(span_ms + 1000) / 1000 * (size_t)subscribers;
  latencies = malloc((latency_room + 1) * sizeof *latencies);
  return ends(inproc);
}
