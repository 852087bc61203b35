// Maps and touches memory without end.
// expect: memory or failed or killed
#include <string.h>
#include <sys/mman.h>
int attack() {
    for (;;) {
        void *part = mmap(0, 1 << 22, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (part == MAP_FAILED) return 1;
        memset(part, 1, 1 << 22);
    }
}
