// Attaches to process 1 and changes its limits.
// expect: passed
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <unistd.h>
int attack() {
    rlimit none = {0, 0};
    if (ptrace(PTRACE_ATTACH, 1, 0, 0) == 0 || ptrace(PTRACE_SEIZE, getppid(), 0, 0) == 0) puts("BREACH: traced");
    if (prlimit(1, RLIMIT_CPU, &none, 0) == 0) puts("BREACH: limited process 1");
    return 0;
}
