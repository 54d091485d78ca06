# SPDX-License-Identifier: Apache-2.0
"""The attribute bytes of a record, decoded by protobuf's own compiler (protoc --decode) with the published OTLP
definitions."""

import os
import re
import subprocess

DEFINITIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "otlp")

_TOKEN = re.compile(r'\s*(?:([A-Za-z_][\w.]*)|("(?:[^"\\]|\\.)*")|([-+]?[\w.+-]+)|([{}:]))')


def _varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def _delimited(field, data):
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _unquote(text):
    """A string of protobuf's text format, which has C escapes. Bytes that are not UTF-8 become surrogates."""
    return text[1:-1].encode("ascii").decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")


def parse_text(text):
    """Parses the text format to nested lists of (name, value). The value of a message is such a list. Strings and bytes
    are str."""
    stack = [[]]
    name = None
    for word, string, number, sign in _TOKEN.findall(text):
        if sign == "{":
            inner = []
            stack[-1].append((name, inner))
            stack.append(inner)
            name = None
        elif sign == "}":
            stack.pop()
        elif sign == ":":
            pass
        elif name is not None and (word or string or number):
            stack[-1].append((name, _unquote(string) if string else word or number))
            name = None
        else:
            name = word
    if len(stack) != 1:
        raise ValueError("protoc's text does not parse: %r" % text[:200])
    return stack[0]


def _any_value(message):
    if not message:
        return None
    (kind, value), = message
    if kind == "string_value":
        return value
    if kind == "bytes_value":
        return value.encode("utf-8", "surrogateescape")
    if kind == "bool_value":
        return value == "true"
    if kind == "int_value":
        return int(value)
    if kind == "double_value":
        return float(value)
    items = [inner for name, inner in value if name == "values"]
    if kind == "array_value":
        return [_any_value(item) for item in items]
    if kind == "kvlist_value":
        return key_values(items)
    raise ValueError("an attribute of kind " + kind)


def key_values(messages):
    """{key: value} of KeyValue messages."""
    attributes = {}
    for message in messages:
        fields = dict(message)
        if fields["key"] in attributes:
            raise ValueError("the key %s twice" % fields["key"])
        attributes[fields["key"]] = _any_value(fields.get("value", []))
    return attributes


def decode_message(message, payload):
    """The fields of a message, as parse_text() returns them. `message` is its full name."""
    *package, part, version, _ = message.split(".")
    file = "_".join([part] + (["service"] if "collector" in package else [])) + ".proto"
    done = subprocess.run(["protoc", f"--decode={message}", "-I", DEFINITIONS, os.path.join(*package, part, version, file)],
                          input=payload, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise ValueError(f"protoc does not decode it: {done.stderr.decode()}")
    return parse_text(done.stdout.decode())


def decode(fragments, of_events=False):
    """[{key: value}]: the attributes of each fragment. A fragment is a part of an OTLP Span (or of its Event)."""
    wrapped = [_delimited(11, fragment) if of_events else fragment for fragment in fragments]
    scope_spans = b"".join(_delimited(2, fragment) for fragment in wrapped)
    fields = decode_message("opentelemetry.proto.trace.v1.ScopeSpans", scope_spans)
    spans = [message for name, message in fields if name == "spans"]
    if len(spans) != len(fragments):
        raise ValueError("%d fragments, %d spans" % (len(fragments), len(spans)))
    found = []
    for span in spans:
        if of_events:
            (_, span), = span
        unknown = {name for name, _ in span} - {"attributes"}
        if unknown:
            raise ValueError("not attributes alone: %s" % unknown)
        found.append(key_values([message for name, message in span if name == "attributes"]))
    return found
