"""An independent reader and writer of encrypted files, from docs/formats alone.

    python3 encrypted_files.py read KEY EPOCH PURPOSE OWNER ID < file > text
    python3 encrypted_files.py write KEY EPOCH PURPOSE OWNER ID CHUNK [SALT] < text > file
    python3 encrypted_files.py vector KEY EPOCH PURPOSE OWNER ID CHUNK SALT < text

KEY is the file key, OWNER a person's id or "system", ID the file's id; in hexadecimal, like SALT.
Needs `cryptography`.
"""

import os
import struct
import sys

from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Refused(Exception):
    pass


def check(holds, why):
    if not holds:
        raise Refused(why)


def hkdf(key, salt, info, length):
    return HKDF(hashes.SHA256(), length, salt, info).derive(key)


def identity(purpose, owner, file):
    who = bytes(17) if owner == "system" else b"\1" + bytes.fromhex(owner)
    return purpose.encode().ljust(32, b"\0") + who + bytes.fromhex(file)


def keys(key, header):
    both = hkdf(key, b"aico file v1", b"aico/file/1\0" + header[:115], 64)
    return both[:32], both[32:]


def nonce(index, last):
    return bytes(3) + struct.pack(">QB", index, last)


def read_finished(data, key, epoch, expected):
    header, body = data[:147], data[147:]
    check(len(header) == 147 and header[8:10] == b"\0\1", "header")
    check(header[10:14] == struct.pack(">I", epoch), "epoch")
    check(header[14:79] == expected, "identity")
    chunk_key, commitment = keys(key, header)
    check(constant_time.bytes_eq(commitment, header[115:147]), "commitment")
    size = struct.unpack(">I", header[79:83])[0]
    check(size in [1 << n for n in range(12, 21)], "chunk size")
    sealed = [body[at : at + size + 16] for at in range(0, len(body), size + 16)]
    check(sealed, "no chunk")
    check(len(sealed) == 1 or len(sealed[-1]) > 16, "empty last chunk")
    cipher, out = AESGCM(chunk_key), []
    for index, chunk in enumerate(sealed):
        out.append(cipher.decrypt(nonce(index, index == len(sealed) - 1), chunk, None))
    return b"".join(out)


def read_appended(data, key, epoch, expected):
    chain_key = hkdf(key, b"aico append v1", b"aico/append/chain/1\0", 32)
    at, number, before, sequence, out = 0, 0, None, None, []
    while at < len(data):
        header = data[at : at + 187]
        check(len(header) == 187 and header[:10] == b"AICOSEG\0\0\1", "segment header")
        check(header[10:14] == struct.pack(">I", epoch), "epoch")
        check(header[14:79] == expected, "identity")
        check(header[79:83] == struct.pack(">I", number), "segment number")
        info = b"aico/append/segment/1\0" + header[:155]
        both = hkdf(key, b"aico append v1", info, 64)
        check(constant_time.bytes_eq(both[32:], header[155:]), "commitment")
        chain = bytes(32)
        if before is not None:
            mac = HMAC(chain_key, hashes.SHA256())
            mac.update(before)
            chain = mac.finalize()
        check(header[123:155] == chain, "chain")
        first = struct.unpack(">Q", header[83:91])[0]
        check(first == (sequence or first), "sequence")
        cipher, count, tag, at = AESGCM(both[:32]), 0, bytes(16), at + 187
        while at < len(data) and data[at] in (1, 3):
            head = data[at : at + 5]
            end = at + 5 + struct.unpack(">I", head[1:])[0] + 16
            check(end <= len(data), "record")
            aad = head + struct.pack(">Q", first + count)
            out.append(cipher.decrypt(struct.pack(">IQ", 0, count), data[at + 5 : end], aad))
            tag, count, at = data[end - 16 : end], count + 1, end
        if at < len(data) and data[at] == 16:
            mark = data[at : at + 25]
            check(mark[1:9] == struct.pack(">Q", count), "closing mark")
            cipher.decrypt(struct.pack(">IQ", 1, count), mark[9:], mark[:9])
            tag, at = mark[9:], at + 25
        before, number, sequence = header + tag, number + 1, first + count
    return b"".join(out)


def write(text, key, epoch, who, size, salt):
    header = b"AICOFIL\0\0\1" + struct.pack(">I", epoch) + who + struct.pack(">I", size) + salt
    chunk_key, commitment = keys(key, header)
    pieces = [text[at : at + size] for at in range(0, len(text), size)] or [b""]
    cipher, out = AESGCM(chunk_key), [header, commitment]
    for index, piece in enumerate(pieces):
        out.append(cipher.encrypt(nonce(index, index == len(pieces) - 1), piece, None))
    return b"".join(out)


def main(what, key, epoch, purpose, owner, file, *rest):
    key, epoch, who = bytes.fromhex(key), int(epoch), identity(purpose, owner, file)
    given = sys.stdin.buffer.read()
    if what == "read":
        form = {b"AICOFIL\0": read_finished, b"AICOSEG\0": read_appended}.get(given[:8])
        check(form, "no encrypted file")
        sys.stdout.buffer.write(form(given, key, epoch, who))
        return
    salt = bytes.fromhex(rest[1]) if len(rest) > 1 else os.urandom(32)
    made = write(given, key, epoch, who, int(rest[0]), salt)
    if what == "write":
        sys.stdout.buffer.write(made)
    else:
        print("chunk key ", keys(key, made)[0].hex())
        print("commitment", made[115:147].hex())
        print("chunks    ", made[147:].hex())


try:
    main(*sys.argv[1:])
except Refused as refused:
    sys.exit(f"refused: {refused}")
