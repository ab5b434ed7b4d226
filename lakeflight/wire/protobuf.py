"""Protobuf messages from definitions in the code, in descriptor pools of their own.

Two packages that register the same file names with different files cannot share protobuf's default pool, and several
clients bundle such files; a private pool also needs no generated code, which would tie us to one protobuf runtime. Nested
messages are declared flat and enums as ``int32``, which is the same on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from lakeflight.wire.errors import MalformedRequestError

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "sint32": _Field.TYPE_SINT32,
    "fixed32": _Field.TYPE_FIXED32,
    "fixed64": _Field.TYPE_FIXED64,
    "sfixed64": _Field.TYPE_SFIXED64,
    "bool": _Field.TYPE_BOOL,
    "double": _Field.TYPE_DOUBLE,
}
_MESSAGE: Final = re.compile(r"(\w+) \{((?:[^{}]|\{[^{}]*\})*)\}")
_MEMBER: Final = re.compile(
    r"oneof (?P<oneof>\w+) \{(?P<members>[^{}]*)\}"
    r"|(?:(?P<label>optional|repeated) )?(?:map<string, (?P<value>[\w.]+)>|(?P<type>[\w.]+))"
    r" (?P<name>\w+) = (?P<number>\d+);"
)


class MessagePool:
    """Message classes from definitions in (a subset of) the protobuf language, registered nowhere else."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        self._files: list[str] = []

    def declare(self, package: str, definitions: str) -> Mapping[str, Any]:
        """Add the messages of one package; they may refer to those of packages declared before."""
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
        file.dependency.extend(self._files)
        for name, body in _MESSAGE.findall(definitions):
            _declare_fields(file.message_type.add(name=name), package, body)
        self._pool.AddSerializedFile(file.SerializeToString())
        self._files.append(file.name)
        return {
            message.name: message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"{package}.{message.name}"))
            for message in file.message_type
        }


def _declare_fields(message: Any, package: str, body: str) -> None:
    proto3_optional = []  # their one-member oneofs must come after the real ones
    for match in _MEMBER.finditer(body):
        if match["oneof"]:
            message.oneof_decl.add(name=match["oneof"])
            for member in _MEMBER.finditer(match["members"]):
                _declare_field(message, package, member).oneof_index = len(message.oneof_decl) - 1
            continue
        field = _declare_field(message, package, match)
        if match["label"] == "optional":
            proto3_optional.append(field)
    for field in proto3_optional:
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{field.name}")


def _declare_field(message: Any, package: str, match: re.Match[str]) -> Any:
    field = message.field.add(name=match["name"], number=int(match["number"]), label=_Field.LABEL_OPTIONAL)
    if match["label"] == "repeated":
        field.label = _Field.LABEL_REPEATED
    if match["value"]:
        entry = message.nested_type.add(name="".join(part.capitalize() for part in field.name.split("_")) + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
        _set_type(entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), package, match["value"])
        field.label, field.type = _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE
        field.type_name = f".{package}.{message.name}.{entry.name}"
    else:
        _set_type(field, package, match["type"])
    return field


def _set_type(field: Any, package: str, name: str) -> None:
    if name in _SCALARS:
        field.type = _SCALARS[name]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{name}" if "." in name else f".{package}.{name}"


def parse(message_class: Any, data: bytes) -> Any:
    """Decode one message.

    Raises:
        MalformedRequestError: The bytes are not such a message.
    """
    try:
        return message_class.FromString(data)
    except DecodeError as error:
        raise MalformedRequestError(f"not a {message_class.DESCRIPTOR.name} message ({len(data)} bytes)") from error
