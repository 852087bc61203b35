// Leaves a detached child behind.
// expect: passed
require("child_process").spawn("sleep", ["3600"], { detached: true, stdio: "ignore" }).unref();
