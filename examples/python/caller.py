# A caller in Python, without our library: it sends one command over SendCommandToClient and prints each update.
#
#   /usr/bin/python3 examples/python/caller.py [client id] [rpm] [hub address]
#
# Needs python3-grpcio (Debian) or `pip install grpcio protobuf`, and a hub: `npm start` brings one up.
import os
import sys
import uuid

import grpc
from messages import enum, message

SendRequest = message("signalbox.v1.SendCommandToClientRequest")
SendResponse = message("signalbox.v1.SendCommandToClientResponse")
StartRequest = message("signalbox.example.v1.StartRequest")
StartResponse = message("signalbox.example.v1.StartResponse")
STATES = {number: name for name, number in enum("signalbox.v1.CommandState").items()}

client_id = sys.argv[1] if len(sys.argv) > 1 else "pump-1"
rpm = int(sys.argv[2]) if len(sys.argv) > 2 else 1200
address = sys.argv[3] if len(sys.argv) > 3 else os.environ.get("SIGNALBOX_ADDRESS", "127.0.0.1:50051")

payload = {
    "type": "signalbox.example.v1.PumpService/Start",
    "value": StartRequest(rpm=rpm).SerializeToString(),
}
# The id is the caller's: sending the same id again is the same command, so a lost answer may be asked for again.
command = {"id": str(uuid.uuid4()), "client_id": client_id, "payload": payload, "timeout_ms": 10_000}

with grpc.insecure_channel(address) as channel:
    send = channel.unary_stream(
        "/signalbox.v1.CommandService/SendCommandToClient",
        request_serializer=SendRequest.SerializeToString,
        response_deserializer=SendResponse.FromString,
    )
    try:
        for response in send(SendRequest(command=command)):
            update = response.update
            state = STATES[update.state].removeprefix("COMMAND_STATE_").lower()
            if state == "progress":
                print(f"progress: {update.progress.fraction:.0%} {update.progress.note}")
            elif state == "succeeded":
                print(f"succeeded: {StartResponse.FromString(update.result.value).rpm} rpm")
            elif update.HasField("error"):
                print(f"{state}: {update.error.code}: {update.error.message}")
                sys.exit(1)
            else:
                print(state)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
