# Listens where the host could be reached, and leaves the listener to a child.
# expect: passed
import os
import socket

server = socket.socket()
server.bind(("0.0.0.0", 8099))
server.listen()
if os.fork() == 0:
    os.setsid()
    server.accept()
