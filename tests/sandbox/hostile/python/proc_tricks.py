# Steers the kernel and process 1 by way of /proc.
# expect: passed
import glob

writable = [
    *("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches"),
    *("/proc/sys/kernel/shmmax", "/proc/sys/net/ipv4/ip_forward", "/proc/1/mem", "/proc/1/oom_score_adj"),
    *("/proc/1/attr/current", "/proc/self/uid_map", "/proc/self/setgroups", "/proc/kcore", "/proc/timer_list"),
]
for path in writable:
    try:
        with open(path, "r+b", buffering=0) as file:
            file.write(b"1")
        print("BREACH:", path)
    except OSError:
        pass
for path in glob.glob("/proc/1/fd/*") + ["/proc/1/root", "/proc/1/cwd", "/proc/1/exe", "/proc/1/maps", "/proc/kmsg"]:
    try:
        print("BREACH:", path, open(path, "rb").read(100))
    except OSError:
        pass
