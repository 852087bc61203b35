# Searches all memory that it can reach for what an earlier program has left.
# expect: passed
import glob
import re

wanted = re.compile(rb"SECRET" + rb"-[0-9a-f]{32}")
for process in glob.glob("/proc/[0-9]*"):
    try:
        spans = [line.split()[0].split("-") for line in open(process + "/maps") if " rw" in line]
        memory = open(process + "/mem", "rb")
    except OSError:
        continue
    for start, end in spans:
        try:
            memory.seek(int(start, 16))
            for found in wanted.findall(memory.read(int(end, 16) - int(start, 16))):
                print("BREACH:", found)
        except OSError:
            pass
