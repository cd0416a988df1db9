# SPDX-License-Identifier: Apache-2.0
"""A server's refusals as sentences, the same for REST and for gRPC."""

from __future__ import annotations

import json

from inception_tf.errors import UserError
from inception_tf.serving.client.address import Address

__all__ = [
    "HTTP_CODES",
    "RETRIED_CODES",
    "unexpected_reply",
    "timeout_error",
    "error_reply",
    "error_message",
]

RETRIED_CODES = (429, 503)  # overloaded, or not ready: another try may do
WORDS_LIMIT = 300  # characters of a server's own words in a sentence

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
    400: "ask for a version or label that it has, of a model that inception-tf export wrote",
    401: "give the user and password that it wants, as in http://user:password@host/...",
    403: "ask its keeper for access",
    404: "check the model's name and version",
    413: "send fewer or smaller images a request: batch_size, request_bytes",
    429: "ask again when it has less to do, or send fewer requests at a time: parallel",
    503: "see that it runs and has loaded the model, then ask again",
    504: "allow it more time: timeout, --timeout",
}


def error_reply(address: Address, code: int, words: str, name: str = "") -> UserError:
    """`http://... answers 404, Servable not found for request: Latest(x); check the model's name ...`

    code: HTTP's.  words: the server's own.  name: the code's in gRPC.
    """
    step = NEXT_STEP.get(code, "the server's log says more")
    words = " ".join(words.split())[:WORDS_LIMIT].rstrip(".") or "without a word"
    return UserError(f"{address} answers {name or code}, {words}; {step}")


def timeout_error(address: Address, timeout: float) -> UserError:
    """The sentence for a server that did not answer in time, in seconds."""
    return UserError(f"{address} gave no answer within {timeout:g} seconds; {NEXT_STEP[504]}")


def unexpected_reply(address: Address, what: str) -> UserError:
    """The sentence for an answer that an export of this package does not give."""
    return UserError(
        f"{address} does not answer as a model of inception-tf export does: {what}; serve such a model"
    )


def error_message(body: bytes) -> str:
    """The message in an error's body: `{"error": "..."}`, and any text where it is not that."""
    text = body.decode(errors="replace")
    # TensorFlow Serving escapes as C does, and JSON has no escape for an apostrophe.
    for candidate in (text, text.replace("\\'", "'")):
        try:
            found = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(found, dict):
            return str(found.get("error") or found.get("detail") or text)
    return text
