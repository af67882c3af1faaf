"""An independent reader of the vault's formats, written from docs/formats alone.

    python3 read_fixtures.py FOLDER

FOLDER holds what the test `a_vault_of_version_1_still_opens` reads. Needs `cryptography`.
"""

import hashlib
import hmac
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

ROOT = b"aico root key v1"
PERSON = b"aico person key v1"


def hkdf(secret, salt, info, length=32):
    prk = hmac.new(salt, secret, hashlib.sha256).digest()
    out, block, number = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([number]), hashlib.sha256).digest()
        out, number = out + block, number + 1
    return out[:length]


def label(purpose, owner=None, context=b""):
    who = bytes(17) if owner is None else b"\1" + owner
    head = b"aico/derive/1\0" + bytes([len(purpose)]) + purpose.encode()
    return head + struct.pack(">H", 1) + who + struct.pack(">Q", len(context)) + context


def container(data, magic):
    assert data[:8] == magic and struct.unpack(">H", data[8:10]) == (1,)
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    wraps, at = {}, 48
    for _ in range(struct.unpack(">H", data[46:48])[0]):
        kind, length = struct.unpack(">HI", data[at : at + 6])
        body = data[at + 6 : at + 6 + length]
        wraps[kind] = (body[:-92], body[-92:])
        at += 6 + length
    assert at == len(data) - 64
    return wraps


def unwrap(data, kind, wrap, secret):
    params, sealed = wrap
    aad = b"aico/wrap/1\0" + data[:46] + struct.pack(">H", kind) + params
    return AESGCM(hkdf(secret, sealed[:32], aad)).decrypt(sealed[32:44], sealed[44:], aad)


def password_key(params, password):
    kind, memory, passes, lanes = struct.unpack(">BIII", params[:13])
    assert kind == 1
    kdf = Argon2id(
        salt=params[13:], length=32, iterations=passes, lanes=lanes, memory_cost=memory
    )
    return kdf.derive(password)


def records(data, base):
    chain_key = hkdf(base, b"aico append v1", b"aico/append/chain/1\0")
    at, previous, number, sequence, out = 0, None, 0, None, []
    while at < len(data):
        header = data[at : at + 187]
        assert header[:10] == b"AICOSEG\0\0\1" and struct.unpack(">I", header[79:83]) == (number,)
        info = b"aico/append/segment/1\0" + header[:155]
        both = hkdf(base, b"aico append v1", info, 64)
        assert both[32:] == header[155:]
        if previous is None:
            assert header[123:155] == bytes(32)
        else:
            expected = hmac.new(chain_key, previous[0] + previous[1], hashlib.sha256).digest()
            assert header[123:155] == expected
        first = struct.unpack(">Q", header[83:91])[0]
        assert sequence is None or first == sequence
        at, count, tag, cipher = at + 187, 0, bytes(16), AESGCM(both[:32])
        while at < len(data) and data[at] in (1, 3):
            kind, length = struct.unpack(">BI", data[at : at + 5])
            body, tag = data[at + 5 : at + 21 + length], data[at + 5 + length : at + 21 + length]
            aad = data[at : at + 5] + struct.pack(">Q", first + count)
            out.append(cipher.decrypt(struct.pack(">IQ", 0, count), body, aad))
            at, count = at + 21 + length, count + 1
        if at < len(data) and data[at] == 16:
            tag = data[at + 9 : at + 25]
            cipher.decrypt(struct.pack(">IQ", 1, count), tag, data[at : at + 9])
            assert struct.unpack(">Q", data[at + 1 : at + 9]) == (count,)
            at += 25
        previous, number, sequence = (header, tag), number + 1, first + count
    return out


def main(folder):
    header = (folder / "vault.hdr").read_bytes()
    wraps = container(header, b"AICOVLT\0")
    secret = password_key(wraps[1][0], "the master password".encode())
    root = unwrap(header, 1, wraps[1], secret)
    assert root == unwrap(header, 2, wraps[2], bytes.fromhex((folder / "phrase.hex").read_text()))
    mac_key = hkdf(root, ROOT, label("header-mac"))
    assert hmac.new(mac_key, header[:-64], hashlib.sha256).digest() == header[-64:-32]

    person = bytes([1] * 16)
    ring = (folder / "persons" / person.hex() / "keyring").read_bytes()
    wraps = container(ring, b"AICOKEY\0")
    key = unwrap(ring, 16, wraps[16], hkdf(root, ROOT, label("person-key-wrap", person)))
    secret = password_key(wraps[17][0], "their own password".encode())
    assert key == unwrap(ring, 17, wraps[17], secret)
    mac_key = hkdf(key, PERSON, label("keyring-mac", person))
    assert hmac.new(mac_key, ring[:-64], hashlib.sha256).digest() == ring[-64:-32]

    file = bytes([2] * 16)
    base = hkdf(root, ROOT, label("log", None, file))
    assert records((folder / "example.sealed").read_bytes(), base) == [b"one", b"two", b"three"]
    registry = records((folder / "registry").read_bytes(), hkdf(root, ROOT, label("registry", None, header[14:30])))
    assert registry[0][:1] == b"\1" and registry[1] == b"\2\7example" + struct.pack(">QB", 3, 1)

    blob = (folder / "blob").read_bytes()
    info = b"aico/seal/1\0" + label("signing-key", None, b"example") + blob[:46]
    both = hkdf(root, ROOT, info, 64)
    assert both[32:] == blob[46:78]
    assert AESGCM(both[:32]).decrypt(bytes(12), blob[78:], blob[:78]) == b"a secret"
    print("ok")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
