<?php
// Reads what the host has.
// expect: passed
foreach ([...explode(":", getenv("HOSTILE_PATHS")), "/etc/shadow", "/proc/1/environ"] as $path) {
    $found = @file_get_contents($path);
    if ($found !== false) { echo "BREACH: ", $found; }
}
print_r(getenv());
