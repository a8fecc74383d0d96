"""Message classes made from the descriptors of proto/ when the program starts, so that no generator is needed.

In a project of your own, let protoc make them: `python -m grpc_tools.protoc -I proto --python_out=. ...`.
"""

import pathlib

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_file = pathlib.Path(__file__).resolve().parents[2] / "proto" / "baseline.binpb"
_pool = descriptor_pool.DescriptorPool()
for _proto in descriptor_pb2.FileDescriptorSet.FromString(_file.read_bytes()).file:
    _pool.Add(_proto)


def message(name):
    """The class of a message: message("signalbox.v1.ConnectRequest")."""
    descriptor = _pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):  # protobuf 4 and newer
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(_pool).GetPrototype(descriptor)


def enum(name):
    """The values of an enum by name: enum("signalbox.v1.CommandState")["COMMAND_STATE_SUCCEEDED"]."""
    return {value.name: value.number for value in _pool.FindEnumTypeByName(name).values}
