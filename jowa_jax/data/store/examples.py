"""Reads what TensorFlow's `tf.train.Example` holds, without TensorFlow.

Importing TensorFlow takes seconds and hundreds of megabytes of every process
that trains, for one message; GPU machines may not have it at all.
Source: tensorflow/core/example/example.proto and feature.proto, of which these
are the fields that hold bytes.
"""

import functools
from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = 'jowa_jax.examples'
# By message: its fields, each a name, a number, a type and if it is repeated.
_MESSAGES = {
  'Example': (('features', 1, 'Features', False),),
  # A map is its entries, one after the other.
  'Features': (('feature', 1, 'Entry', True),),
  'Entry': (('key', 1, 'TYPE_STRING', False), ('value', 2, 'Feature', False)),
  'Feature': (('bytes_list', 1, 'BytesList', False),),
  'BytesList': (('value', 1, 'TYPE_BYTES', True),),
}


def bytes_of(example: bytes, name: str) -> Sequence[bytes]:
  """The bytes of one feature.

  Args:
    example: a `tf.train.Example`, serialized.
    name: of the feature, a `bytes_list`.

  Raises:
    KeyError: there is no such feature.
    google.protobuf.message.DecodeError: it is no example.
  """
  for entry in _example_type().FromString(example).features.feature:
    if entry.key == name:
      return entry.value.bytes_list.value
  raise KeyError(name)


@functools.cache
def _example_type() -> Any:
  """The class of a message."""
  field_proto = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(
    name=f'{_PACKAGE}.proto', package=_PACKAGE, syntax='proto3'
  )
  for message, fields in _MESSAGES.items():
    described = file.message_type.add(name=message)
    for name, number, kind, repeated in fields:
      label = 'LABEL_REPEATED' if repeated else 'LABEL_OPTIONAL'
      field = described.field.add(
        name=name, number=number, label=getattr(field_proto, label)
      )
      if kind in _MESSAGES:
        field.type = field_proto.TYPE_MESSAGE
        field.type_name = f'.{_PACKAGE}.{kind}'
      else:
        field.type = getattr(field_proto, kind)
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(
    pool.FindMessageTypeByName(f'{_PACKAGE}.Example')
  )
