# SPDX-License-Identifier: Apache-2.0
"""What is an address of a served model, and what is not."""

from __future__ import annotations

import pytest

from inception_tf import UserError
from inception_tf.serving.client.address import is_address, parse_address

URLS = (
    "http://host:8501/v1/models/digits",
    "https://host/behind/a/proxy/v1/models/digits/versions/12",
    "http://[::1]:8501/v1/models/digits/labels/canary_2",
    "grpc://host:8500/v1/models/digits/versions/1",
    "grpcs://host:443/v1/models/digits",
    "http://user:word@host/v1/models/digits",
    "http://host:8000/v2/models/digits",
    "https://host/behind/a/proxy/v2/models/digits/versions/v0.1",
    "grpc://host:8001/v2/models/digits/versions/1",
)


@pytest.mark.parametrize("url", URLS)
def test_an_address_is_read_and_written_again(url):
    assert is_address(url)
    assert parse_address(url).url == url


def test_model_version_and_label_may_stand_beside_the_address():
    for url, more in (
        ("http://host:1", {"model": "m", "version": 3}),
        ("http://host:1/v1/models/m", {"version": 3}),
        ("http://host:1/", {"model": "m", "version": 3}),
        ("http://host:1/v1/models/m/versions/3/", {"model": "m"}),
    ):
        assert parse_address(url, **more).url == "http://host:1/v1/models/m/versions/3"
    assert parse_address("grpc://h:1", "m", label="new").path == "/v1/models/m/labels/new"
    assert parse_address("http://h:1/v2", "m", "7").url == "http://h:1/v2/models/m/versions/7"


def test_a_sentence_does_not_tell_the_password():
    assert str(parse_address("http://user:word@host:1/v1/models/m")) == "http://host:1/v1/models/m"


REFUSED = {
    "http://host:8501": "names no model",
    "http://host:8501/v1/models/": "is not the address of a served model; give http://host:8501/v1",
    "http://host:8501/v1/models/a:predict": "is not the address of a served model",
    "http://host:8501/v1/models/a/versions/x": "is not the address of a served model",
    "http://host:8501/v1/models/a?x=1": "is not the address of a served model",
    "http://host:8501/v2": "names no model",
    "http://host:8501/v2/models/a/labels/x": "is not the address of a served model",
    "http://host:8501/v2/models/a/infer": "is not the address of a served model",
    "http://host:8501/v3/models/a": "is not the address of a served model",
    "http:///v1/models/a": "is not the address of a server",
    "ftp://host/v1/models/a": "is not the address of a server",
    "http://host:port/v1/models/a": "is not an address",
    "grpc://host/v1/models/a": "has no port, which gRPC needs",
    "grpc://host:1/proxy/v1/models/a": "gRPC has neither paths nor passwords",
    "grpc://user:word@host:1/v1/models/a": "gRPC has neither .* got 'grpc://host:1/v1/models/a'",
}


@pytest.mark.parametrize("url", REFUSED)
def test_another_form_is_refused(url):
    with pytest.raises(UserError, match=REFUSED[url]):
        parse_address(url)


def test_what_is_said_twice_is_refused():
    with pytest.raises(UserError, match="name two models"):
        parse_address("http://host/v1/models/a", model="b")
    for more in ({"version": 1}, {"label": "x"}):
        with pytest.raises(UserError, match="more than one version or label"):
            parse_address("http://host/v1/models/a/versions/2", **more)


def test_a_label_is_of_the_first_api():
    with pytest.raises(UserError, match="has no labels of versions"):
        parse_address("http://host/v2/models/a", label="new")


def test_a_path_is_no_address():
    for path in ("saved_models/digits", "/http:/x", "http", "C:\\models"):
        assert not is_address(path)
