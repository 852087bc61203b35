# Leaves files everywhere for the next program, which must not find them.
# expect: passed
import os

for folder in ("/tmp", "/tmp/program", "/dev/shm", "/tmp/.hidden/deep"):
    os.makedirs(folder, exist_ok=True)
    for name in ("sitecustomize.py", "usercustomize.py", "typing.py", "left"):
        with open(f"{folder}/{name}", "w") as file:
            file.write("import os\nos._exit(0)\n")
