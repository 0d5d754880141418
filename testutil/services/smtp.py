"""A mail server of Debian's python3-aiosmtpd, with the tempers that mail servers have.

It prints "ready PORT", and then every message it has taken as a line of JSON.
"""
import argparse
import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

flags = argparse.ArgumentParser()
flags.add_argument("--user")
flags.add_argument("--password")
flags.add_argument("--cert")
flags.add_argument("--key")
flags.add_argument("--tls", choices=["none", "starttls", "tls"], default="none")
flags.add_argument("--refuse", action="append", default=[], help="an address refused for good")
flags.add_argument("--greylist", type=int, default=0, help="how often a recipient is put off")
flags.add_argument("--full", action="store_true", help="552 to every message")
flags.add_argument("--hang", choices=["connect", "answer"])
flags.add_argument("--cut", type=int, default=0, help="how often the connection is cut between the message and its answer")
flags.add_argument("--keep", action="store_true", help="keep the message that was cut off")
args = flags.parse_args()

tries = {}
cuts = args.cut


def keep(server, envelope, session):
    print(json.dumps({
        "from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": server.transport.get_extra_info("ssl_object") is not None,
        "login": bool(session.authenticated), "data": envelope.original_content.decode("utf-8", "replace"),
    }), flush=True)


class Handler:
    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        if args.hang == "connect":
            await asyncio.sleep(3600)
        return responses

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in args.refuse:
            return "550 5.1.1 no such user here"
        tries[address] = tries.get(address, 0) + 1
        if tries[address] <= args.greylist:
            return "451 4.7.1 greylisted, try again later"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        global cuts
        if args.full:
            return "552 5.2.2 mailbox full"
        if args.hang == "answer":
            await asyncio.sleep(3600)
        if cuts > 0:
            cuts -= 1
            if args.keep:
                keep(server, envelope, session)
            server.transport.abort()
            await asyncio.sleep(3600)
        keep(server, envelope, session)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login.decode() == args.user and data.password.decode() == args.password
    return AuthResult(success=good, handled=False)


async def main():
    context = None
    if args.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.cert, args.key)

    def make():
        return SMTP(
            Handler(), hostname="mail.test", enable_SMTPUTF8=True,
            authenticator=authenticate if args.user else None, auth_required=bool(args.user), auth_require_tls=args.tls == "starttls",
            require_starttls=args.tls == "starttls", tls_context=context if args.tls == "starttls" else None)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(make, "127.0.0.1", 0, ssl=context if args.tls == "tls" else None)
    print("ready", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(0)
