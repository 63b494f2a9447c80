"""Signs tokens with PyJWT and Authlib, one for each algorithm, and prints them with the keys that they were signed with.

Arguments: the issuer, the audience, and the moment at which the tokens expire, in seconds since 1970.
"""

import base64
import json
import sys
import warnings

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

with warnings.catch_warnings():
    # Authlib recommends its successor; what it signs is the same.
    warnings.simplefilter("ignore")
    from authlib.jose import JsonWebKey, JsonWebToken

ISSUER, AUDIENCE, EXPIRES = sys.argv[1], sys.argv[2], int(sys.argv[3])
SECRET = bytes(range(64))
KEYS = {
    "RS": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
ALGORITHMS = "HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA".split()


def key(algorithm):
    if algorithm.startswith("HS"):
        return SECRET
    return KEYS["RS" if algorithm[1] == "S" and algorithm[0] in "RP" else algorithm]


def claims(by):
    return {"iss": ISSUER, "aud": [AUDIENCE], "exp": EXPIRES, "iat": EXPIRES - 600, "sub": by, "roles": ["customer"]}


def pyjwt(algorithm):
    return jwt.encode(claims("pyjwt"), key(algorithm), algorithm=algorithm, headers={"kid": kid(algorithm)})


def authlib(algorithm):
    held = key(algorithm)
    if not isinstance(held, bytes):
        held = held.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    header = {"alg": algorithm, "kid": kid(algorithm)}
    return JsonWebToken([algorithm]).encode(header, claims("authlib"), held).decode()


def kid(algorithm):
    return "secret" if algorithm.startswith("HS") else next(name for name, held in KEYS.items() if held is key(algorithm))


def public(name, held):
    pem = held.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {**JsonWebKey.import_key(pem).as_dict(), "kid": name, "use": "sig"}


print(json.dumps({
    "keys": [public(name, held) for name, held in KEYS.items()],
    "secret": base64.urlsafe_b64encode(SECRET).decode().rstrip("="),
    "tokens": [[by.__name__, algorithm, by(algorithm)] for by in (pyjwt, authlib) for algorithm in ALGORITHMS],
}))
