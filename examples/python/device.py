# A device in Python, without our library: hello, acknowledge, run commands, answer. docs/wire.md explains the frames.
#
#   /usr/bin/python3 examples/python/device.py [client id] [hub address]
#
# Needs python3-grpcio (Debian) or `pip install grpcio protobuf`, and a hub: `npm start` brings one up. Ctrl-C ends it.
# It does what is needed and no more: it neither resumes a lost session nor keeps a journal, so it connects anew.
import os
import queue
import signal
import sys
import uuid

import grpc
from messages import enum, message

ConnectRequest = message("signalbox.v1.ConnectRequest")
ConnectResponse = message("signalbox.v1.ConnectResponse")
StartRequest = message("signalbox.example.v1.StartRequest")
StartResponse = message("signalbox.example.v1.StartResponse")
StopResponse = message("signalbox.example.v1.StopResponse")
STATE = enum("signalbox.v1.CommandState")
SERVICE = "signalbox.example.v1.PumpService"

client_id = sys.argv[1] if len(sys.argv) > 1 else "pump-py"
address = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("SIGNALBOX_ADDRESS", "127.0.0.1:50051")
boot_id = str(uuid.uuid4())

outgoing = queue.Queue()  # what is to be sent; None ends the stream
sent = 0  # number of the newest frame that must not be lost
received = 0  # highest number from the hub


def send(numbered=False, **body):
    """Sends one frame. Results and events carry a number, rising by one; every frame acknowledges what came."""
    global sent
    if numbered:
        sent += 1
    outgoing.put(ConnectRequest(seq=sent if numbered else 0, ack=received, **body))


def run(command):
    """Runs a command and gives the fields of its result."""
    if command.payload.type == f"{SERVICE}/Start":
        rpm = StartRequest.FromString(command.payload.value).rpm
        answer = ("StartResponse", StartResponse(rpm=rpm))
    elif command.payload.type == f"{SERVICE}/Stop":
        answer = ("StopResponse", StopResponse(ran_ms=0))
    else:
        error = {"code": "no-handler", "message": f"{client_id} does not know {command.payload.type}"}
        return {"state": STATE["COMMAND_STATE_REJECTED"], "error": error}
    name, value = answer
    payload = {"type": f"signalbox.example.v1.{name}", "value": value.SerializeToString()}
    return {"state": STATE["COMMAND_STATE_SUCCEEDED"], "payload": payload}


def leave(*_):
    send(goodbye={})
    outgoing.put(None)


signal.signal(signal.SIGINT, leave)
signal.signal(signal.SIGTERM, leave)

hello = {"client_id": client_id, "boot_id": boot_id, "journal_id": boot_id, "protocol": 1, "agent": "device.py"}
send(hello=hello)
with grpc.insecure_channel(address) as channel:
    connect = channel.stream_stream(
        "/signalbox.v1.DeviceService/Connect",
        request_serializer=ConnectRequest.SerializeToString,
        response_deserializer=ConnectResponse.FromString,
    )
    for frame in connect(iter(outgoing.get, None)):
        received = max(received, frame.seq)
        kind = frame.WhichOneof("body")
        if kind == "welcome":
            print(f"{client_id} is connected to {address}", flush=True)
            send(numbered=True, event={"number": 1, "name": "door.opened", "json": '{"by": "python"}'})
        elif kind == "command":
            send()  # acknowledges the command: now it counts as delivered
            print(f"{frame.command.payload.type}", flush=True)
            send(numbered=True, started={"command_id": frame.command.id})
            send(numbered=True, result={"command_id": frame.command.id, **run(frame.command)})
        elif kind == "ping":
            send(pong={"nonce": frame.ping.nonce})
        elif kind == "goodbye":
            print(f"the hub says goodbye: {frame.goodbye.message}", flush=True)
print(f"{client_id} has left", flush=True)
