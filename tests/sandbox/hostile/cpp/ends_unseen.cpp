// Ends with 0 by the bare system call.
// expect: left early
#include <sys/syscall.h>
#include <unistd.h>
int attack() { return syscall(SYS_exit_group, 0); }
