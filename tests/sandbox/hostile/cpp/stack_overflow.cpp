// Overflows its stack.
// expect: killed
int below(volatile int depth) { return depth < 0 ? 0 : below(depth + 1) + depth; }
int attack() { return below(1); }
