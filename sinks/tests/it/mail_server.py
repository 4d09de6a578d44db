"""A mail server for the tests: stores what it takes as JSON, and misbehaves for some recipients.

    mail_server.py DIRECTORY PORT [USER PASSWORD]

Prints its port once it listens, ends with its standard input. By the recipient's first word (before a dot or the @):
`refuse` is 550 for good, `later` is 451 the first time, `drop` loses its connection the first time.
"""

import asyncio
import email
import email.policy
import json
import os
import sys
import threading

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    def __init__(self, directory):
        self.directory = directory
        self.seen = set()
        self.taken = 0

    def first_time(self, address):
        first = address not in self.seen
        self.seen.add(address)
        return first

    async def handle_RCPT(self, server, session, envelope, address, options):
        word = address.split("@")[0].split(".")[0]
        if word == "refuse":
            return f"550 5.1.1 no such user <{address}>"
        if word == "later" and self.first_time(address):
            return f"451 4.7.1 greylisted <{address}>"
        if word == "drop" and self.first_time(address):
            server.transport.abort()
            return "421 gone"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = lambda kind: message.get_body(preferencelist=(kind,)).get_content()
        mail = {
            "mail_from": envelope.mail_from,
            "rcpt_tos": envelope.rcpt_tos,
            "headers": [[name, str(value)] for name, value in message.items()],
            "text": body("plain"),
            "html": body("html"),
            "signed_in": bool(session.authenticated),
        }
        path = os.path.join(self.directory, f"{self.taken:04}.json")
        self.taken += 1
        with open(path + ".tmp", "w") as file:
            json.dump(mail, file)
        os.rename(path + ".tmp", path)
        return "250 taken"


async def main():
    directory, port, *credentials = sys.argv[1:]
    handler = Handler(directory)

    def authenticate(server, session, envelope, mechanism, data):
        given = [data.login.decode(), data.password.decode()]
        # Not handled: the server itself answers 535.
        return AuthResult(success=given == credentials, handled=False)

    def connection():
        return SMTP(
            handler,
            enable_SMTPUTF8=True,
            auth_required=bool(credentials),
            auth_require_tls=False,
            authenticator=authenticate if credentials else None,
        )

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", int(port))
    print(server.sockets[0].getsockname()[1], flush=True)
    # The test that started it has ended, however it did.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    await server.serve_forever()


asyncio.run(main())
