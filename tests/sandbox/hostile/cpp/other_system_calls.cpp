// Makes system calls by the numbers of other architectures, which a filter may overlook.
// expect: passed or killed
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
int attack() {
    if (syscall(0x40000000 | 272, 0x10000000) == 0) puts("BREACH: unshare by its x32 number");
    if (syscall(0x40000000 | 165, "none", "/tmp", "tmpfs", 0, 0) == 0) puts("BREACH: mount by its x32 number");
    return 0;
}
