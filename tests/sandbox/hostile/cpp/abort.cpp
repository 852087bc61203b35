// Ends by a signal of its own, with a core that must not be written.
// expect: killed
#include <stdlib.h>
int attack() { abort(); }
