# Writes wherever it can outside its own folders.
# expect: passed
import os

planted = os.environ["HOSTILE_FOLDER"]
for folder in (planted, "/", "/usr", "/usr/lib", "/etc", "/dev", "/proc", "/proc/sys/kernel", "/root", "/home", "/var"):
    try:
        if folder == planted:
            os.makedirs(folder)  # lands in the private /tmp
        with open(f"{folder}/written", "w") as file:
            file.write("x")
        if folder != planted:
            print("BREACH:", folder)
    except OSError:
        pass
