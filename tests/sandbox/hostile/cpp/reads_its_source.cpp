// Looks for the source, where the mark of success stands.
// expect: passed
#include <stdio.h>
int attack() {
    if (fopen("main.cpp", "r")) puts("BREACH: the source is still there");
    return 0;
}
