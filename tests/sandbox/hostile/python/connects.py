# Connects to a server of the host and to the world outside.
# expect: passed
import os
import socket

for address in (("127.0.0.1", int(os.environ["HOSTILE_PORT"])), ("1.1.1.1", 53), ("169.254.169.254", 80)):
    try:
        socket.create_connection(address, timeout=0.2)
        print("BREACH:", address)
    except OSError:
        pass
for family in (socket.AF_NETLINK, socket.AF_PACKET, socket.AF_VSOCK):
    try:
        socket.socket(family, socket.SOCK_RAW)
        print("BREACH:", family)
    except OSError:
        pass
