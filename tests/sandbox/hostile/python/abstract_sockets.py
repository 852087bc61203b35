# Abstract sockets have no file and so no permissions.
# expect: passed
import os
import socket

for name in os.environ["HOSTILE_ABSTRACT"].split(":"):
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("\0" + name)
        print("BREACH: connected")
    except OSError:
        pass
