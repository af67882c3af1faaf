"""An independent reader of backup archives, written from docs/formats alone.

    python3 archives.py FILE PASSWORD

Prints one line for each part: kind, owner, number, SHA-256 of the text; then the manifest. Ends
with an error when a byte of the file is not what it should be. Needs `cryptography`.
"""

import hashlib
import hmac
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from read_fixtures import ROOT, container, hkdf, label, password_key, unwrap

CHUNK = 65536


def open_key(data):
    header_length = struct.unpack(">I", data[35:39])[0]
    header = data[39 : 39 + header_length]
    sealed = data[39 + header_length : 39 + header_length + 126]
    wraps = container(header, b"AICOVLT\0")
    assert sorted(wraps) == [1, 2]
    root = unwrap(header, 1, wraps[1], password_key(wraps[1][0], sys.argv[2].encode()))
    mac = hmac.new(hkdf(root, ROOT, label("header-mac")), header[:-64], hashlib.sha256).digest()
    assert mac == header[-64:-32]
    name = b"archive-key\0" + hashlib.sha256(data[: 39 + header_length]).digest()
    assert sealed[:10] == b"AICOBLB\0\0\1"
    info = b"aico/seal/1\0" + label("archive", None, name) + sealed[:46]
    both = hkdf(root, ROOT, info, 64)
    assert both[32:] == sealed[46:78]
    key = AESGCM(both[:32]).decrypt(bytes(12), sealed[78:], sealed[:78])
    return key, 39 + header_length + 126


def part(data, key, archive_id, offset, length):
    head, body = data[offset : offset + 86], data[offset + 86 : offset + length]
    both = hkdf(key, b"aico archive v1", b"aico/archive/1\0" + archive_id + head[:54], 64)
    assert both[32:] == head[54:]
    cipher, text, index, at = AESGCM(both[:32]), b"", 0, 0
    while True:
        chunk = body[at : at + CHUNK + 16]
        at += len(chunk)
        last = at == len(body)
        nonce = bytes(3) + struct.pack(">QB", index, last)
        text += cipher.decrypt(nonce, chunk, None)
        index += 1
        if last:
            return head, text


def main():
    data = Path(sys.argv[1]).read_bytes()
    assert data[:10] == b"AICOBAK\0\0\1"
    archive_id = data[10:26]
    key, begins = open_key(data)
    at, length, end = struct.unpack(">QQ8s", data[-24:])
    assert end == b"AICOEND\0" and at + length == len(data) - 24
    head, index = part(data, key, archive_id, at, length)
    assert head[:22] == b"\xff" + bytes(17) + b"\xff" * 4
    count, place = struct.unpack(">I", index[:4])[0], 4
    for _ in range(count):
        kind, owner, number, offset, size, plain = struct.unpack(
            ">B17sIQQQ", index[place : place + 46]
        )
        digest = index[place + 46 : place + 78]
        place += 78
        assert offset == begins
        begins += size
        assert hashlib.sha256(data[offset : offset + size]).digest() == digest
        head, text = part(data, key, archive_id, offset, size)
        assert head[:22] == struct.pack(">B17sI", kind, owner, number) and len(text) == plain
        print(kind, owner.hex(), number, hashlib.sha256(text).hexdigest())
    assert begins == at
    size = struct.unpack(">Q", index[place : place + 8])[0]
    manifest = index[place + 8 :]
    assert len(manifest) == size
    print(manifest.decode())


main()
