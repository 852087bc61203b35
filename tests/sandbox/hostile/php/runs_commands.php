<?php
// Leaves a command running.
// expect: passed
shell_exec("setsid sleep 3600 > /dev/null 2>&1 &");
if (@file_put_contents("/usr/planted", "x")) { echo "BREACH"; }
