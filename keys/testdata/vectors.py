#!/usr/bin/env python3
"""A second implementation of the bytes of packages keys and identity, from the specifications in their doc.go alone.

It uses nothing but Python's standard library and writes keys/testdata/vectors.json and identity/testdata/vectors.json, which the
tests compare with what the Go code makes. Run it from the root of the repository; the files must not change.
"""
import base64
import hashlib
import hmac
import json

# --- primitives ---------------------------------------------------------------------------------------------------------------

H = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
u64 = lambda n: n.to_bytes(8, "big")


def KDF(ikm, salt, info):
    prk = hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


# Ed25519 after RFC 8032, section 6.
p = 2**255 - 19
q = 2**252 + 27742317777372353535851937790883648493
d = -121665 * pow(121666, p - 2, p) % p


def add(P, Q):
    A, B = (P[1] - P[0]) * (Q[1] - Q[0]) % p, (P[1] + P[0]) * (Q[1] + Q[0]) % p
    C, D = 2 * P[3] * Q[3] * d % p, 2 * P[2] * Q[2] % p
    E, F, G, I = B - A, D - C, D + C, B + A
    return (E * F % p, G * I % p, F * G % p, E * I % p)


def mul(s, P):
    Q = (0, 1, 1, 0)
    while s > 0:
        if s & 1:
            Q = add(Q, P)
        P = add(P, P)
        s >>= 1
    return Q


def recover_x(y, sign):
    x2 = (y * y - 1) * pow(d * y * y + 1, p - 2, p)
    x = pow(x2, (p + 3) // 8, p)
    if (x * x - x2) % p != 0:
        x = x * pow(2, (p - 1) // 4, p) % p
    assert (x * x - x2) % p == 0
    return p - x if (x & 1) != sign else x


def compress(P):
    z = pow(P[2], p - 2, p)
    x, y = P[0] * z % p, P[1] * z % p
    return (y | ((x & 1) << 255)).to_bytes(32, "little")


gy = 4 * pow(5, p - 2, p) % p
gx = recover_x(gy, 0)
G = (gx, gy, 1, gx * gy % p)


class Key:
    def __init__(self, seed):
        self.seed = seed
        h = hashlib.sha512(seed).digest()
        a = int.from_bytes(h[:32], "little")
        self.a = a & ((1 << 254) - 8) | (1 << 254)
        self.prefix = h[32:]
        self.pub = compress(mul(self.a, G))

    def sign(self, msg):
        r = int.from_bytes(hashlib.sha512(self.prefix + msg).digest(), "little") % q
        R = compress(mul(r, G))
        k = int.from_bytes(hashlib.sha512(R + self.pub + msg).digest(), "little") % q
        return R + ((r + k * self.a) % q).to_bytes(32, "little")


def cbor(v):
    def head(major, n):
        if n < 24:
            return bytes([major << 5 | n])
        for i, size in enumerate((1, 2, 4, 8)):
            if n < 1 << 8 * size:
                return bytes([major << 5 | 24 + i]) + n.to_bytes(size, "big")
    if isinstance(v, int):
        return head(0, v)
    if isinstance(v, bytes):
        return head(2, len(v)) + v
    if isinstance(v, str):
        return head(3, len(v.encode())) + v.encode()
    if isinstance(v, list):
        return head(4, len(v)) + b"".join(cbor(x) for x in v)
    if isinstance(v, dict):
        pairs = sorted((cbor(k), cbor(x)) for k, x in v.items())
        return head(5, len(pairs)) + b"".join(k + x for k, x in pairs)
    raise TypeError(v)


# --- package keys -------------------------------------------------------------------------------------------------------------

def sequence(first):
    return bytes((first + i) % 256 for i in range(32))


mesh, secret, h = sequence(0x00), sequence(0x20), sequence(0x40)
k1, k2, exporter = sequence(0x60), sequence(0x80), sequence(0xA0)
node, issuer = Key(sequence(0x01)), Key(sequence(0x02))
ek, ct = bytes(i % 251 for i in range(1184)), bytes(i % 241 for i in range(1088))
m1 = b"meshkey/1 "

alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def node_text(pub):
    n = int.from_bytes(pub + H(m1 + b"node-check", pub)[:3], "big")
    vals = [n >> 5 * (55 - i) & 31 for i in range(56)]
    groups = []
    for g in range(7):
        v = vals[8 * g:8 * g + 8]
        c = sum((i + 1) * x for i, x in enumerate(v)) % 31
        s = "".join(alphabet[x] for x in v)
        groups.append(s[:4] + "-" + s[4:] + "-" + alphabet[c])
    return groups


keys = {
    "gate": KDF(secret, mesh, m1 + b"gate"),
    "beacon": KDF(secret, mesh, m1 + b"beacon"),
    "commitment of generation 7": H(m1 + b"group", mesh, u64(7), secret),
    "invite psk": KDF(secret, mesh, m1 + b"invite"),
    "kem psk": KDF(secret, H(m1 + b"kem", ek, ct), m1 + b"psk2"),
    "exporter": KDF(k1 + k2, h, m1 + b"exporter"),
    "rekey psk": KDF(exporter, h, m1 + b"rk-psk"),
    "rekey prologue to generation 9": m1 + b"rekey\0" + mesh + h + u64(9),
    "handshake prologue of suite 2": b"meshkey/1\0\x02" + mesh + node.pub,
    "stream tag, acceptor, counter 258": KDF(exporter, b"", m1 + b"stream tag\0\x01" + u64(258))[:16],
    "stream key, dialer, counter 3, back": KDF(exporter, b"", m1 + b"stream key\0\x00" + u64(3) + b"\x01"),
    "next stream key": KDF(exporter, k1, m1 + b"stream rekey"),
    "chain start": H(m1 + b"chain", mesh, issuer.pub),
    "confirmation": H(m1 + b"words", h),
    "request": H(m1 + b"csr-words", h),
    "public key": node.pub,
    "signature, label cert, payload abc": node.sign(m1 + b"cert\0" + mesh + b"abc"),
    "signature, label rotate, payload of two ids": node.sign(m1 + b"rotate\0" + mesh + node.pub + issuer.pub),
}
out = {k: v.hex() for k, v in keys.items()}
out["node text"] = " · ".join(node_text(node.pub))
out["node compact"] = ".".join(node_text(node.pub))
json.dump(out, open("keys/testdata/vectors.json", "w"), indent=1, ensure_ascii=False)

# --- package identity ---------------------------------------------------------------------------------------------------------


def envelope(label, payload, *signers):
    msg = m1 + label + b"\0" + mesh + payload
    return cbor([payload, [[k.pub, k.sign(msg)] for k in sorted(signers, key=lambda k: k.pub)]])


def invite(body):
    return "mk1i" + base64.b32encode(body + H(b"mk1i", body)[:4]).decode().rstrip("=").lower()


small_cert = {1: mesh, 2: node.pub, 3: 1, 4: issuer.pub, 5: 1700000000, 6: 1707776000, 7: [], 8: "gpu1", 9: 0}
far = 253402300799
tags = sorted(chr(ord("a") + i) + "x" * (23 if i < 10 else 2) for i in range(15)) + ["z"]
large_cert = {1: mesh, 2: node.pub, 3: 2**64 - 1, 4: issuer.pub, 5: far - 1, 6: far, 7: tags, 8: "n" * 63, 9: far}
binding = {1: mesh, 2: node.pub, 3: sequence(0x09), 4: 1700000000, 5: 1700086400, 6: sequence(0x77)[:16]}
csr = {1: mesh, 2: node.pub, 3: "gpu1", 4: ["gpu", "lab"], 5: h}
inv = {
    1: mesh, 2: sequence(0xE0)[:8], 3: secret, 4: 3, 5: h,
    6: [[k.pub, 12, h] for k in sorted([issuer, node], key=lambda k: k.pub)],
    7: [[bytes([192, 168, 1, 5]), 7477], [bytes([0xFD] + [0] * 14 + [5]), 7477]],
    8: node.pub, 9: 1700003600, 10: "gpu1",
}
objects = {
    "certificate": envelope(b"cert", cbor(small_cert), issuer).hex(),
    "certificate id": H(cbor(small_cert)).hex(),
    "large certificate": envelope(b"cert", cbor(large_cert), issuer).hex(),
    "binding": envelope(b"binding", cbor(binding), node).hex(),
    "request": envelope(b"csr", cbor(csr), node).hex(),
    "envelope of two": envelope(b"entry", b"payload", node, issuer).hex(),
    "invite": invite(cbor(inv)),
}
json.dump(objects, open("identity/testdata/vectors.json", "w"), indent=1)
