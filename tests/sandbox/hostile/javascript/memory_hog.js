// Takes all the memory that it can get.
// expect: memory or failed or killed
const kept = [];
for (;;) kept.push(Buffer.alloc(8 << 20, 1));
