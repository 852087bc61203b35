// Ends with 0 before main.
// expect: left early
#include <unistd.h>
__attribute__((constructor)) void early() { _exit(0); }
int attack() { return 0; }
