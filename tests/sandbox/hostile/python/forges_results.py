# Writes answers of its own to every descriptor that it can find.
# expect: left early
import json
import os

text = json.dumps({"exit_code": 0, "signal": None, "stopped": None, "marker_seen": True}).encode()
answer = len(text).to_bytes(4, "little") + bytes(4) + text
for number in range(3, 1024):
    try:
        os.write(number, answer)
        print("BREACH:", number)
    except OSError:
        pass
os.write(1, answer)
os._exit(0)
