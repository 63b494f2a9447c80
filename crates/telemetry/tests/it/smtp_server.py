"""A mail server for tests, of the standard library alone: SMTP (RFC 5321) with STARTTLS, TLS from the start, and
AUTH PLAIN. Prints its port, then each mail it takes as a line of JSON.

usage: smtp_server.py plain|starttls|tls [certificate key]"""

import asyncio
import base64
import json
import ssl
import sys

MODE = sys.argv[1]
TLS = None
if MODE != "plain":
    TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    TLS.load_cert_chain(sys.argv[2], sys.argv[3])


async def serve(reader, writer):
    state = {"tls": MODE == "tls", "login": None, "from": None, "to": []}

    def say(text):
        writer.write(text.encode() + b"\r\n")

    say("220 mail.test ESMTP")
    while line := await reader.readline():
        words = line.decode().strip()
        verb = words.split(" ")[0].upper()
        if verb == "EHLO":
            offers = ["mail.test"]
            if MODE == "starttls" and not state["tls"]:
                offers.append("STARTTLS")
            if state["tls"]:
                offers.append("AUTH PLAIN")
            for number, offer in enumerate(offers):
                say(f"250{' ' if number == len(offers) - 1 else '-'}{offer}")
        elif verb == "STARTTLS":
            say("220 go ahead")
            await writer.drain()
            await writer.start_tls(TLS)
            state["tls"] = True
        elif verb == "AUTH":
            _, user, password = base64.b64decode(words.split(" ")[2]).decode().split("\0")
            state["login"] = [user, password]
            say("235 welcome" if password == "right" else "535 5.7.8 wrong")
        elif verb == "MAIL":
            state["from"] = words
            say("250 ok")
        elif verb == "RCPT":
            state["to"].append(words)
            say("250 ok" if "nobody@" not in words else "550 no such user")
        elif verb == "DATA":
            say("354 go on")
            await writer.drain()
            body = []
            while (part := await reader.readline()) != b".\r\n":
                body.append(part.decode())
            print(json.dumps({**state, "data": "".join(body)}), flush=True)
            say("250 taken")
        elif verb == "QUIT":
            say("221 bye")
            break
        else:
            say("250 ok")
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=TLS if MODE == "tls" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
