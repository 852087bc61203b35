// Forks for ever by the bare system call.
// expect: time
#include <unistd.h>
int attack() {
    for (;;) fork();
}
