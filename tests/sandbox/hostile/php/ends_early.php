<?php
// Ends with 0 before its tests.
// expect: left early
die();
