# SPDX-License-Identifier: Apache-2.0
"""Errors of a server as sentences, the same for REST and for gRPC."""

from __future__ import annotations

import json

from inception_tf.errors import UserError, printable
from inception_tf.serving.client.address import Address

__all__ = [
    "HTTP_CODES",
    "RETRIED_CODES",
    "unexpected_reply",
    "timeout_error",
    "error_reply",
    "error_message",
]

RETRIED_CODES = (429, 503)  # overloaded, or not ready: another try may succeed
WORDS_LIMIT = 300  # characters of a server's message in a sentence

# gRPC's status → HTTP's code, as TensorFlow Serving's REST API translates it; 500 for the others.
HTTP_CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}

# HTTP code → what to do.
NEXT_STEP = {
    400: "request a version or label that it has, of a model that inception-tf export wrote",
    401: "give a user and password, as in http://user:password@host/...",
    403: "request access from its administrator",
    404: "check the model's name and version",
    413: "send fewer or smaller images per request: batch_size, request_bytes",
    429: "try again when it has less load, or send fewer requests at a time: parallel",
    503: "check that it runs and has loaded the model, then try again",
    504: "allow it more time: timeout, --timeout",
}


def error_reply(address: Address, code: int, words: str, name: str = "") -> UserError:
    """Makes the sentence for an error that a server replied with.

    Args:
        address: The served model.
        code: HTTP's code.
        words: The server's message.
        name: The code's name in gRPC.

    Returns:
        `http://... replied 404, Servable not found for request: Latest(x); check the model's name ...`
    """
    step = NEXT_STEP.get(code, "the server's log says more")
    words = " ".join(words.split())[:WORDS_LIMIT].rstrip(".") or "without a message"
    return UserError(f"{address} replied {name or code}, {printable(words)}; {step}")


def timeout_error(address: Address, timeout: float) -> UserError:
    """Makes the sentence for a server that did not reply in time.

    Args:
        address: The served model.
        timeout: Seconds.

    Returns:
        The error to raise.
    """
    return UserError(f"{address} did not reply within {timeout:g} seconds; {NEXT_STEP[504]}")


def unexpected_reply(address: Address, what: str) -> UserError:
    """Makes the sentence for a reply that no export of this package gives.

    Args:
        address: The served model.
        what: What is wrong with the reply.

    Returns:
        The error to raise.
    """
    what = printable(what[:WORDS_LIMIT])
    return UserError(
        f"{address} does not reply as a model of inception-tf export does: {what}; serve such a model"
    )


def error_message(body: bytes) -> str:
    """Extracts the message of an error from a reply's body.

    Args:
        body: `{"error": "..."}`, or any text.

    Returns:
        The message; all of the text where it is not JSON.
    """
    text = body.decode(errors="replace")
    # TensorFlow Serving escapes as C does, and JSON has no escape for an apostrophe.
    for candidate in (text, text.replace("\\'", "'")):
        try:
            found = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            found = found.get("error") or found.get("detail")
            return found if isinstance(found, str) else text
    return text
