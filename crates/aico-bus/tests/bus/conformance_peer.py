"""The hostile and the honest peers of conformance.rs: pyzmq, or a bare socket, at either door.

Reads one JSON object from standard input: the part to play, where, and with which keys. Says what
it saw in lines of standard output, and stays until standard input ends.
"""

import json
import socket as net
import sys
import time

import zmq
from pyzmq_peer import control, envelope, expect_control, field, frame, last, parse, receive

ROUTER, LIVE = "router", "live"

# A socket that nobody holds is closed, with what it has not sent yet.
held = []


def say(*words):
    print(*words, flush=True)


def open_at(context, door, endpoint, keys, case="listed"):
    socket = context.socket(zmq.DEALER if door == ROUTER else zmq.SUB)
    held.append(socket)
    socket.linger = 0
    if case == "plain":
        socket.plain_username, socket.plain_password = b"weather", b"weather"
    elif case != "no-curve":
        socket.curve_serverkey = keys["server_public"].encode()
        socket.curve_publickey = keys["client_public"].encode()
        socket.curve_secretkey = keys["client_secret"].encode()
    if case == "wrong-server-key":
        socket.curve_serverkey = zmq.curve_keypair()[0]
    if door == LIVE:
        # All that it may hear.
        socket.subscribe("")
    socket.connect(endpoint)
    return socket


def hello(socket):
    socket.send(control(1, field(1, 1) + field(2, "pyzmq")))
    assert last(expect_control(socket, 2), 2), "no welcome"


def stranger(context, given):
    """Tries for a while and must hear nothing at all."""
    socket = open_at(context, given["door"], given["endpoint"], given, given["case"])
    say("trying")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        if given["door"] == ROUTER:
            try:
                socket.send(control(1, field(1, 1)), zmq.NOBLOCK)
            except zmq.Again:
                pass
        if socket.poll(50):
            return say("heard", socket.recv())
    say("silence")


def greeting(mechanism):
    return b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism.ljust(20, b"\0") + bytes(32)


def command(name, body):
    content = bytes([len(name)]) + name + body
    return b"\x04" + bytes([len(content)]) + content


RAW = {
    "null-by-hand": greeting(b"NULL")
    + command(b"READY", b"\x0bSocket-Type\0\0\0\x03SUB")
    + b"\x00\x01\x01",
    "two-gib-command": greeting(b"CURVE") + b"\x06" + (2**31).to_bytes(8, "big") + bytes(1000),
    "two-gib-message": greeting(b"CURVE") + b"\x02" + (2**31).to_bytes(8, "big") + bytes(1000),
    "message-first": greeting(b"CURVE") + b"\x00\x05\x01near",
    "ready-without-hello": greeting(b"CURVE")
    + command(b"READY", b"\x0bSocket-Type\0\0\0\x03SUB"),
    "other-protocol": b"GET / HTTP/1.1\r\nHost: aico\r\n\r\n" + bytes(64),
}


def raw(given):
    """A bare socket: everything that it is sent until the other end closes."""
    with net.socket(net.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(given["endpoint"].removeprefix("ipc://"))
        heard = b""
        try:
            peer.sendall(RAW[given["case"]])
            while more := peer.recv(65536):
                heard += more
        except ConnectionError:
            pass
    say("closed", len(heard), heard.hex() or "-")


def subscribers(context, given):
    """A SUB socket for each case; says case, topic and what was missed, until all heard the end."""
    sockets = {}
    poller = zmq.Poller()
    for number, case in enumerate(given["cases"]):
        socket = context.socket(zmq.SUB)
        held.append(socket)
        socket.linger = 0
        socket.curve_serverkey = case["server_public"].encode()
        socket.curve_publickey = case["client_public"].encode()
        socket.curve_secretkey = case["client_secret"].encode()
        for prefix in case["prefixes"]:
            socket.subscribe(prefix)
        for prefix in case.get("taken_back", []):
            socket.unsubscribe(prefix)
        socket.connect(given["endpoint"])
        sockets[socket] = number
        poller.register(socket, zmq.POLLIN)
    while sockets:
        for socket, _ in poller.poll():
            topic, sent = socket.recv_multipart()
            fields = parse(sent)
            assert last(fields, 1, 0) == 1 and last(fields, 2) == topic, fields
            for one in fields[3]:
                assert last(parse(one), 2) == topic
                say(sockets[socket], topic.decode(), last(parse(one), 102).decode())
            if topic == b"near.end":
                poller.unregister(socket)
                del sockets[socket]
                held.remove(socket)
                socket.close()
    say("done")


def member_of_little(context, given):
    """At the ROUTER door: asks for what it may have and for what it may not, and says what came."""
    socket = open_at(context, ROUTER, given["endpoint"], given)
    hello(socket)
    for number, (direction, pattern) in enumerate(given["wanted"], 1):
        wanted = field(1, number) + field(2, pattern) + field(3, 100) + field(4, 100_000)
        if direction in ("subscribe", "serve"):
            socket.send(control(3 if direction == "subscribe" else 4, wanted))
            refused = 2 in expect_control(socket, 5)
        else:
            socket.send(frame(pattern, envelope(pattern, "aico.v1.Empty", b"", kind=1)))
            refused = last(expect_control(socket, 10), 2, 0) == 4
        say(direction, pattern, "refused" if refused else "granted")
    for topic, extra in given["published"]:
        socket.send(frame(topic, envelope(topic, "aico.v1.Empty", b"") + bytes.fromhex(extra)))
    say("published")


def hostile_frames():
    good = envelope("near.x", "aico.v1.Empty", b"")
    huge = b"\x1a\xff\xff\xff\xff\x07"
    return {
        "no protobuf": b"\xff" * 9,
        "nothing": b"",
        "a length of 2 GiB": field(1, 1) + field(2, "near.x") + huge + b"abc",
        "a length of 2 GiB inside": frame("near.x", huge + b"abc"),
        "a length beyond 2^63": frame("near.x", b"\x1a" + b"\xff" * 9 + b"\x01"),
        "a varint without end": frame("near.x", b"\x08" + b"\xff" * 20),
        "groups in groups": b"\x0b" * 100_000,
        "groups in groups inside": frame("near.x", good + b"\x0b" * 100_000),
        "another version": field(1, 99) + field(2, "near.x") + field(3, good),
        "no envelope": field(1, 1) + field(2, "near.x"),
        "5,000 envelopes": field(1, 1) + field(2, "near.x") + field(3, good) * 5000,
        "an envelope of another topic": frame("near.x", envelope("near.y", "", b"")),
        "a topic that is none": frame("near..x", envelope("near..x", "", b"")),
        "a pattern for a topic": frame("near.*", envelope("near.*", "", b"")),
        "no id": frame("near.x", field(2, "near.x")),
        "a short id": frame("near.x", field(1, b"short") + field(2, "near.x")),
        "a long person": frame("near.x", good + field(4, b"x" * 17)),
        "an unknown role": frame("near.x", envelope("near.x", "", b"", kind=77)),
        "a part of no exchange": frame("near.x", envelope("near.x", "", b"", b"x" * 16, 2)),
        "a control of no kind": frame("$link", envelope("$link", "aico.v1.Control", b"")),
        "a control of a later kind": control(99, b""),
        "what only the daemon says": control(2, field(1, 1)),
    }


def malformed(context, given):
    """Sends what can't be read, one kind after the other; then something good."""
    socket = open_at(context, ROUTER, given["endpoint"], given)
    hello(socket)
    frames = hostile_frames()
    for name, bad in frames.items():
        say("sends", name)
        socket.send(bad)
        # The word of the daemon is a sign that all before was read.
        socket.send(control(1, field(1, 1)))
        expect_control(socket, 2)
        say("sent", name)
        sys.stdin.readline()
    socket.send_multipart([frame("near.x", envelope("near.x", "", b"")), b"a second part"])
    socket.send(control(1, field(1, 1)))
    expect_control(socket, 2)
    later = envelope("near.good", "aico.v1.Empty", b"")
    # A field and a value of a later version: field 6 is the priority.
    later += field(6, 99) + field(9999, "from the future")
    socket.send(frame("near.good", later))
    say("all sent")


def keeper(context, given):
    """Hears near.good at its door and says it as it came."""
    socket = open_at(context, given["door"], given["endpoint"], given)
    if given["door"] == ROUTER:
        hello(socket)
        socket.send(control(3, field(1, 1) + field(2, "near.good") + field(3, 9) + field(4, 9999)))
        assert 2 not in expect_control(socket, 5)
        say("listening")
        topic = "$link"
        while topic != "near.good":
            sent = parse(socket.recv())
            topic = last(sent, 2).decode()
    else:
        say("listening")
        topic = b""
        while topic != b"near.good":
            topic, sent = socket.recv_multipart()
        sent = parse(sent)
    say("heard", sent[3][0].hex())


def upstream(context, given):
    """An XSUB socket, which can say more than a SUB socket does."""
    socket = context.socket(zmq.XSUB)
    held.append(socket)
    socket.linger = 0
    socket.curve_serverkey = given["server_public"].encode()
    socket.curve_publickey = given["client_public"].encode()
    socket.curve_secretkey = given["client_secret"].encode()
    socket.connect(given["endpoint"])
    for message in given["says"]:
        socket.send_multipart([bytes.fromhex(part) for part in message])
    say("sent")


def stopped(context, given):
    """Takes one message, reads nothing until it is told to, and then says how much it missed."""
    socket = context.socket(zmq.DEALER if given["door"] == ROUTER else zmq.SUB)
    held.append(socket)
    socket.linger = 0
    socket.curve_serverkey = given["server_public"].encode()
    socket.curve_publickey = given["client_public"].encode()
    socket.curve_secretkey = given["client_secret"].encode()
    if given["door"] == LIVE:
        socket.rcvhwm = 1
        socket.subscribe("near.")
    socket.connect(given["endpoint"])
    if given["door"] == ROUTER:
        hello(socket)
        socket.send(control(3, field(1, 1) + field(2, "near.#") + field(3, 8) + field(4, 1 << 20)))
        assert 2 not in expect_control(socket, 5)
    say("listening")
    sys.stdin.readline()
    heard = missed = 0
    topic, size = "", 0
    while topic != "near.end":
        if given["door"] == ROUTER:
            fields = parse(socket.recv())
            topic = last(fields, 2).decode()
            if topic == "$link":
                said = parse(last(parse(fields[3][0]), 13))
                if 8 in said:
                    missed += last(parse(said[8][0]), 2, 0)
                continue
            size = sum(len(last(parse(one), 13)) + len(topic) + 256 for one in fields[3])
            back = field(1, 1) + field(3, len(fields[3])) + field(4, size)
            socket.send(control(7, back))
        else:
            topic, sent = socket.recv_multipart()
            topic, fields = topic.decode(), parse(sent)
            missed += last(fields, 5, 0)
        heard += len(fields[3])
    say("heard", heard, "missed", missed)


def lines(context, given):
    """Says each topic that it hears."""
    socket = open_at(context, LIVE, given["endpoint"], given)
    while True:
        say(socket.recv_multipart()[0].decode())


given = json.loads(sys.stdin.readline())
if given["part"] == "raw":
    raw(given)
else:
    context = zmq.Context()
    globals()[given["part"]](context, given)
sys.stdin.readline()
