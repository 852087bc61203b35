# Reaches parts of the kernel that have often been a way in.
# expect: passed
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(256)
calls = {
    "add_key": (248, b"user", b"name", b"secret", 6, -3),
    "request_key": (249, b"user", b"name", None, -3),
    "keyctl": (250, 0, -3, 1),
    "bpf": (321, 0, buffer, 128),
    "perf_event_open": (298, buffer, 0, -1, -1, 0),
    "userfaultfd": (323, 1),
    "io_uring_setup": (425, 8, buffer),
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, buffer, 0, b""),
    "reboot": (169, 0xFEE1DEAD, 672274793, 0, None),
    "swapon": (167, b"main.py", 0),
    "acct": (163, b"main.py"),
    "quotactl": (179, 0x800002, None, 0, buffer),
    "syslog": (103, 3, buffer, 256),
    "name_to_handle_at": (303, -100, b"main.py", buffer, buffer, 0),
    "iopl": (172, 3),
    "settimeofday": (164, buffer, None),
    "sethostname": (170, b"mine", 4),
    "personality": (135, 0x0400000),
}
for name, arguments in calls.items():
    if libc.syscall(*arguments) >= 0:
        print("BREACH:", name)
