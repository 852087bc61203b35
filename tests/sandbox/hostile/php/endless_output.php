<?php
// Writes without end.
// expect: output
while (true) { echo str_repeat("x", 1000); }
