"""TLS of the echo servers: on with a certificate and its key as arguments."""

import ssl
import sys


def of_arguments():
    """The scheme, and the settings or None."""
    if len(sys.argv) == 1:
        return "ws", None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:3])
    return "wss", context
