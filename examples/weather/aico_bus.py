"""A module's end of AICO's bus in Python: pyzmq and the generated messages, nothing else.

docs/bus.md describes the link; the names here are those of link.proto.
"""

import json
import time
import uuid

import zmq
from aico.v1 import envelope_pb2, link_pb2
from zmq.utils.monitor import recv_monitor_message

Kind = envelope_pb2.Exchange


class Refused(Exception):
    """The daemon refuses it; its words are for people."""


class Bus:
    """One connection, from a connection file. After a restart of the daemon it joins again."""

    def __init__(self, connection_file, endpoint=None):
        with open(connection_file) as file:
            given = json.load(file)
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 1000
        self.socket.curve_serverkey = given["server_public"].encode()
        self.socket.curve_publickey = given["client_public"].encode()
        self.socket.curve_secretkey = given["client_secret"].encode()
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self.poller = zmq.Poller()
        self.poller.register(self.socket, zmq.POLLIN)
        self.poller.register(self.monitor, zmq.POLLIN)
        self.wanted = []
        self.socket.connect(endpoint or given["endpoints"][0])

    def subscribe(self, pattern, messages=1000, size=4 << 20):
        """Answers with the number that deliveries carry as their receiver."""
        wanted = link_pb2.Control.SubscribeTo(
            id=len(self.wanted) + 1, pattern=pattern, messages=messages, bytes=size
        )
        return self._want(subscribe=wanted)

    def serve(self, pattern, concurrency=4):
        """Likewise, for requests."""
        wanted = link_pb2.Control.ServeOn(
            id=len(self.wanted) + 1, pattern=pattern, concurrency=concurrency
        )
        return self._want(serve=wanted)

    def publish(self, topic, message, **fields):
        return self._send(topic, message, **fields)

    def request(self, topic, message, **fields):
        """Asks; the answer comes as a delivery whose correlation is this id."""
        return self._send(topic, message, exchange=Kind(kind=Kind.KIND_REQUEST), **fields)

    def reply(self, request, message):
        end = Kind(kind=Kind.KIND_END)
        self._send(request.topic, message, correlation=request.id, exchange=end)

    def receive(self, seconds):
        """Yields (receiver, envelope) for what comes in that time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready = dict(self.poller.poll(left * 1000))
            if self.monitor in ready:
                recv_monitor_message(self.monitor)
                self._join()
            if self.socket in ready:
                yield from self._read(envelope_pb2.Frame.FromString(self.socket.recv()))

    def _join(self):
        self._control(hello=link_pb2.Control.Hello(version=1, program="weather.py"))
        for wanted in self.wanted:
            self._control(**wanted)

    def _want(self, **wanted):
        self.wanted.append(wanted)
        return len(self.wanted)

    def _read(self, frame):
        for raw in frame.envelopes:
            envelope = envelope_pb2.Envelope.FromString(raw)
            if frame.topic != "$link":
                yield frame.receiver, envelope
                if not envelope.HasField("exchange"):
                    # What was taken may be sent again: 256 bytes for each message, as docs/bus.md has it.
                    size = len(envelope.payload) + len(envelope.topic) + 256
                    self._control(
                        credit=link_pb2.Control.Credit(
                            subscription=frame.receiver, messages=1, bytes=size
                        )
                    )
                continue
            said = link_pb2.Control.FromString(envelope.payload)
            if said.HasField("registered") and said.registered.HasField("refusal"):
                raise Refused(said.registered.refusal.detail or said.registered.refusal.title)
            if said.HasField("failed"):
                yield 0, envelope_pb2.Envelope(
                    correlation=said.failed.exchange, exchange=Kind(kind=Kind.KIND_FAULT)
                )

    def _control(self, **say):
        self._send("$link", link_pb2.Control(**say))

    def _send(self, topic, message, **fields):
        envelope = envelope_pb2.Envelope(
            id=uuid.uuid4().bytes,
            topic=topic,
            time_unix_ns=time.time_ns(),
            schema_version=1,
            payload_type=message.DESCRIPTOR.full_name,
            payload=message.SerializeToString(),
            **fields,
        )
        frame = envelope_pb2.Frame(
            version=1, topic=topic, envelopes=[envelope.SerializeToString()]
        )
        self.socket.send(frame.SerializeToString())
        return envelope.id
