// Reads what the host has.
// expect: passed
const fs = require("fs");
for (const path of [...process.env.HOSTILE_PATHS.split(":"), "/etc/shadow", "/proc/1/environ"]) {
    try { console.log("BREACH: " + fs.readFileSync(path)); } catch (error) {}
}
console.log(process.env);
