# Looks for what an earlier program has left in the places that can be written to.
# expect: passed
import os

for top in ("/tmp", "/dev/shm", "/dev/mqueue", "/var", "/run"):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if path != "/tmp/program/main.py":
                print("BREACH:", path, open(path, "rb").read(1000))
