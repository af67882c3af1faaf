"""A peer of the bus in Python: pyzmq (libzmq with libsodium) and nothing of ours.

Reads one JSON object from standard input: credentials and the part to play. Protobuf is written
by hand here, so that the wire format is checked by something that does not share its code.
"""

import json
import sys
import uuid

import zmq


def varint(n):
    out = b""
    while True:
        n, low = n >> 7, n & 0x7F
        out += bytes([low | (0x80 if n else 0)])
        if not n:
            return out


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def parse(data):
    """Field number to its values; the last value of a scalar is the one that counts."""
    fields, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        else:
            size, at = read_varint(data, at)
            value, at = data[at : at + size], at + size
        fields.setdefault(key >> 3, []).append(value)
    return fields


def last(fields, number, default=b""):
    return fields.get(number, [default])[-1]


def frame(topic, envelope):
    return field(1, 1) + field(2, topic) + field(3, envelope)


def envelope(topic, type_name, payload, correlation=None, kind=None, index=0):
    out = field(1, uuid.uuid4().bytes) + field(2, topic) + field(10, 1)
    if correlation is not None:
        out += field(8, correlation)
    out += field(12, type_name) + field(13, payload)
    if kind is not None:
        out += field(14, field(1, kind) + field(2, index))
    return out


def control(number, body):
    return frame("$link", envelope("$link", "aico.v1.Control", field(number, body)))


def receive(socket):
    """The next frame as (topic, receiver, envelopes)."""
    fields = parse(socket.recv())
    envelopes = [parse(raw) for raw in fields[3]]
    return last(fields, 2).decode(), last(fields, 4, 0), envelopes


def expect_control(socket, number):
    while True:
        topic, _, envelopes = receive(socket)
        if topic == "$link":
            said = parse(last(envelopes[0], 13))
            if number in said:
                return parse(said[number][0])


def open_socket(context, given):
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.rcvtimeo = 20_000
    if given["part"] != "no-curve":
        socket.curve_serverkey = given["server_public"].encode()
        socket.curve_publickey = given["client_public"].encode()
        socket.curve_secretkey = given["client_secret"].encode()
    if given["part"] == "unlisted":
        public, secret = zmq.curve_keypair()
        socket.curve_publickey, socket.curve_secretkey = public, secret
    if given["part"] == "wrong-server-key":
        socket.curve_serverkey = zmq.curve_keypair()[0]
    if given["part"] == "routing-id":
        socket.setsockopt(zmq.IDENTITY, b"companion")
    socket.connect(given["endpoint"])
    return socket


def refused(socket):
    """Says hello again and again, and must never hear a word; ends after many tries."""
    print("trying", flush=True)
    for _ in range(1_000_000 if given["part"] == "revoked" else 30):
        try:
            socket.send(control(1, field(1, 1)), zmq.NOBLOCK)
        except zmq.Again:
            pass
        if socket.poll(50):
            socket.recv()
            if given["part"] != "revoked":
                print("heard", flush=True)
                return
    print("silence", flush=True)


def member(socket):
    socket.send(control(1, field(1, 1) + field(2, "pyzmq")))
    welcome = expect_control(socket, 2)
    assert last(welcome, 2) == b"weather", welcome
    # Subscribe to near.*, serve far.work.
    socket.send(control(3, field(1, 1) + field(2, "near.*") + field(3, 100) + field(4, 100_000)))
    assert 2 not in expect_control(socket, 5)
    socket.send(control(4, field(1, 2) + field(2, "far.work") + field(3, 4)))
    assert 2 not in expect_control(socket, 5)
    # Publish with a forged sender; ask the daemon.
    forged = envelope("weather.today", "aico.v1.Empty", b"") + field(102, "companion")
    socket.send(frame("weather.today", forged))
    socket.send(frame("near.work", envelope("near.work", "aico.v1.Empty", b"", kind=1)))
    heard, asked, answered = 0, 0, False
    while not (heard == 3 and asked == 1 and answered):
        topic, receiver, envelopes = receive(socket)
        for given in envelopes:
            kind = last(parse(last(given, 14)), 1, 0)
            if topic == "near.event":
                assert receiver == 1 and last(given, 102) == b"companion", given
                heard += 1
            elif topic == "far.work" and kind == 1:
                assert receiver == 2, receiver
                asked += 1
                number = last(given, 1)
                for index in range(3):
                    word = field(4, index) + field(5, "word")
                    part = envelope(topic, "aico.v1.AnswerDelta", word, number, 2, index)
                    socket.send(frame(topic, part))
                socket.send(frame(topic, envelope(topic, "", b"", number, 3)))
            elif topic == "near.work" and kind == 3:
                assert last(given, 12) == b"aico.v1.TokenCount", given
                answered = True
    print("done", flush=True)
    sys.stdin.readline()


DURABLE = "system.session.ended"


def lives(part, play):
    """Plays a part with each new set of credentials that comes in, until input ends."""
    line = sys.stdin.readline()
    with zmq.Context() as context:
        while line:
            given = dict(json.loads(line), part=part)
            with open_socket(context, given) as socket:
                socket.send(control(1, field(1, 1) + field(2, "pyzmq")))
                play(socket)
            line = sys.stdin.readline()


def frames(socket):
    """What comes, until there is something to read on standard input: other credentials."""
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        if sys.stdin.fileno() in ready:
            return
        yield receive(socket)


def controls(topic, envelopes):
    if topic == "$link":
        for given in envelopes:
            yield from parse(last(given, 13)).items()


def tell(what, id, sequence):
    """A line at once or not at all: this process may be killed at any moment."""
    sys.stdout.write(f"{what} {id.hex()} {sequence}\n")
    sys.stdout.flush()


def durable_follower(socket):
    cursor = field(1, 1) + field(2, "system.#") + field(3, 64) + field(4, 1 << 20)
    socket.send(control(11, cursor + field(8, "main")))
    taken, size = 0, 0
    for topic, _, envelopes in frames(socket):
        for number, bodies in controls(topic, envelopes):
            assert number != 12, "messages were skipped"
            assert number != 5 or 2 not in parse(bodies[0]), "it was refused"
            if number == 5:
                print("following", flush=True)
        if topic == "$link":
            continue
        for given in envelopes:
            taken, size = taken + 1, size + len(last(given, 13)) + len(topic) + 256
            tell("got", last(given, 1), last(given, 100, 0))
        # Only what was told of is done with.
        if taken >= 20:
            done = last(envelopes[-1], 100, 0)
            socket.send(control(14, field(1, 1) + field(2, done)))
            socket.send(control(7, field(1, 1) + field(3, taken) + field(4, size)))
            taken, size = 0, 0


# What nobody has answered for, by id: it is published until somebody does.
unanswered = {}


def durable_publisher(socket):
    def publish(number):
        body = field(1, number) + field(2, DURABLE) + field(10, 1)
        body += field(12, "aico.v1.SessionEnded") + field(13, field(1, number))
        unanswered[number] = frame(DURABLE, body)
        socket.send(unanswered[number])

    for sent in list(unanswered.values()):
        socket.send(sent)
    while len(unanswered) < 64:
        publish(uuid.uuid4().bytes)
    for topic, _, envelopes in frames(socket):
        for number, bodies in controls(topic, envelopes):
            if number != 15:
                continue
            published = parse(bodies[0])
            assert 3 not in published, published
            for id, place in zip(published[1], published[2], strict=True):
                if unanswered.pop(id, None):
                    tell("acked", id, last(parse(place), 2, 0))
                    publish(uuid.uuid4().bytes)


if __name__ == "__main__":
    part = sys.argv[1] if len(sys.argv) > 1 else None
    if part:
        lives(part, {"publisher": durable_publisher, "follower": durable_follower}[part])
    else:
        given = json.loads(sys.stdin.readline())
        with zmq.Context() as context, open_socket(context, given) as socket:
            member(socket) if given["part"] == "member" else refused(socket)
